"use strict";
// What a page does beyond being read: copying, sorting, values under the pointer, smoothing. All of
// it is put there by this script, so that a page without it has no dead button.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const kept = { smoothing: 0, sorted: new Map() };

  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  // Copying.
  const copy = async (button, text) => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.parentNode.querySelector(".copied"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  };
  const addCopy = root => root.querySelectorAll(".copied").forEach(block => {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(button, block.textContent));
    block.before(button);
  });

  // Sorting: numbers by value, text by the alphabet, a third click back to the page's own order.
  const number = text => {
    const found = text.replace(/−/g, "-").replace(/,/g, "").match(/^[^\d+-]*([+-]?\d[\d.]*(?:e[+-]?\d+)?)/i);
    return found ? Number(found[1]) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y;
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
    return a.localeCompare(b);
  };
  const sort = (table, place, direction) => {
    const body = table.tBodies[0];
    body.own ??= [...body.rows];
    const text = row => row.cells[place].textContent.trim();
    const rows = [...body.own];
    if (direction) rows.sort((a, b) => direction * compare(text(a), text(b)));
    body.append(...rows);
    for (const head of table.tHead.rows[0].cells) {
      const here = head.firstElementChild && Number(head.firstElementChild.value) === place;
      if (here && direction) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  };
  const addSort = root => root.querySelectorAll("table.sortable").forEach((table, index) => {
    if (table.tBodies[0].rows.length < 2) return;
    let place = 0;
    for (const head of table.tHead.rows[0].cells) {
      const button = make("button", { type: "button", class: "sort", value: place }, ...head.childNodes);
      button.addEventListener("click", () => {
        const last = kept.sorted.get(index);
        const before = last && last.place === Number(button.value) ? last.direction : 0;
        const direction = { 0: -1, "-1": 1, 1: 0 }[before];
        kept.sorted.set(index, { place: Number(button.value), direction });
        sort(table, Number(button.value), direction);
      });
      head.append(button);
      place += head.colSpan;
    }
    const last = kept.sorted.get(index);
    if (last) sort(table, last.place, last.direction);
  });

  // Values under the pointer, or under the arrow keys.
  const shown = value => value === null || value === undefined ? "–"
    : (Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-4) ? value.toExponential(2)
      : String(Number(value.toPrecision(4)))).replace("-", "−");
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  const mark = (svg, name, attributes) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    svg.append(node);
    return node;
  };
  const clear = () => {
    tip.hidden = true;
    document.querySelectorAll(".under-pointer").forEach(node => node.remove());
  };
  const show = (plot, x) => {
    clear();
    const { data, svg } = plot;
    const left = data.x[0] + data.x[1] * x;
    const group = mark(svg, "g", { class: "under-pointer" });
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    mark(group, "line", { x1: left, x2: left, y1: data.span[0], y2: data.span[1] });
    tip.replaceChildren(make("b", {}, `${data.of || "x"} ${shown(x)}`));
    for (const line of data.lines) {
      const place = line.x.indexOf(x);
      if (place < 0 || line.y[place] === null) continue;
      mark(group, "circle", {
        r: 3.5, cx: data.x[0] + data.x[1] * (x + line.shift),
        cy: data.y[0] + data.y[1] * line.y[place], class: `s${line.series}`,
      });
      let text = shown(line.y[place]);
      if (line.low.length && line.low[place] !== null) {
        text += ` [${shown(line.low[place])}, ${shown(line.high[place])}]`;
      }
      if (line.smooth) text += `, smoothed ${shown(line.smooth[place])}`;
      const swatch = make("span", { class: `swatch line-${line.series}` });
      tip.append(make("span", { class: "entry" }, swatch, `${line.name} `, make("span", {}, text)));
    }
    tip.hidden = false;
    const box = svg.getBoundingClientRect();
    const scale = box.width / width;
    const wide = tip.offsetWidth;
    const at = box.left + left * scale;
    const beside = at + 14 + wide < document.documentElement.clientWidth ? at + 14 : at - 14 - wide;
    tip.style.left = `${Math.max(6, beside)}px`;
    const high = box.top - tip.offsetHeight + 34 * scale;
    tip.style.top = `${Math.max(6, Math.min(high, box.top + height * scale))}px`;
    plot.at = x;
  };
  const nearest = (plot, clientX) => {
    const box = plot.svg.getBoundingClientRect();
    const width = Number(plot.svg.getAttribute("viewBox").split(" ")[2]);
    const x = ((clientX - box.left) / box.width * width - plot.data.x[0]) / plot.data.x[1];
    return plot.xs.reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
  };
  const addValues = root => root.querySelectorAll(".plot[data-points]").forEach(node => {
    const data = JSON.parse(node.dataset.points);
    const svg = node.querySelector("svg");
    const xs = [...new Set(data.lines.flatMap(line => line.x))].sort((a, b) => a - b);
    if (!svg || !xs.length) return;
    const plot = { node, svg, data, xs, at: null };
    node.plot = plot;
    node.tabIndex = 0;
    node.addEventListener("pointermove", event => show(plot, nearest(plot, event.clientX)));
    node.addEventListener("pointerdown", event => show(plot, nearest(plot, event.clientX)));
    node.addEventListener("pointerleave", clear);
    node.addEventListener("blur", clear);
    node.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const place = plot.at === null ? (step > 0 ? -1 : xs.length) : xs.indexOf(plot.at);
      show(plot, xs[Math.min(xs.length - 1, Math.max(0, place + step))]);
    });
  });

  // Smoothing: an exponential mean, without the pull of its first value.
  const smoothed = (values, weight) => {
    let last = 0, mass = 0;
    return values.map(value => {
      if (value === null) return null;
      last = weight * last + (1 - weight) * value;
      mass = weight * mass + (1 - weight);
      return last / mass;
    });
  };
  const smooth = root => root.querySelectorAll(".plot").forEach(({ plot }) => {
    if (!plot) return;
    plot.svg.querySelectorAll(".smoothed").forEach(node => node.remove());
    for (const line of plot.data.lines) {
      const raw = plot.svg.querySelector(`[id$='-line-${line.series}']`);
      if (!line.raw || !raw) continue;
      line.smooth = kept.smoothing > 0 ? smoothed(line.y, kept.smoothing) : null;
      raw.style.opacity = line.smooth ? 0.28 : "";
      if (!line.smooth) continue;
      let path = "";
      line.smooth.forEach((value, place) => {
        if (value === null) return;
        const x = plot.data.x[0] + plot.data.x[1] * line.x[place];
        const y = plot.data.y[0] + plot.data.y[1] * value;
        path += `${path ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
      });
      mark(plot.svg, "path", { d: path, class: `smoothed s${line.series}` });
    }
  });
  const addSmoothing = root => {
    const section = root.querySelector("#curves");
    if (!section || ![...section.querySelectorAll(".plot")].some(
      node => node.plot && node.plot.data.lines.some(line => line.raw && line.x.length > 2))) return;
    const output = make("output", {}, kept.smoothing.toFixed(2));
    const range = make("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: kept.smoothing });
    range.addEventListener("input", () => {
      kept.smoothing = Number(range.value);
      output.textContent = kept.smoothing.toFixed(2);
      smooth(document);
    });
    const label = make("label", { class: "smoothing" }, "Smoothing of the training curves", range, output);
    section.querySelector(".figures").before(label);
  };

  // Which section is read.
  let watching = null;
  const addPlace = root => {
    const links = new Map([...document.querySelectorAll(".sections a")].map(
      link => [link.hash.slice(1), link]));
    if (watching) watching.disconnect();
    if (!links.size || !window.IntersectionObserver) return;
    watching = new IntersectionObserver(entries => {
      for (const entry of entries) {
        const link = links.get(entry.target.id);
        if (!link || !entry.isIntersecting) continue;
        links.forEach(other => other.removeAttribute("aria-current"));
        link.setAttribute("aria-current", "location");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    root.querySelectorAll("section[id]").forEach(section => watching.observe(section));
  };

  const enliven = root => {
    addCopy(root);
    addSort(root);
    addValues(root);
    addSmoothing(root);
    smooth(root);
    addPlace(root);
  };
  addEventListener("keydown", event => { if (event.key === "Escape") clear(); });
  addEventListener("scroll", clear, { passive: true });
  document.body.append(tip);
  enliven(document);

  // A live page asks its server whether the runs went on, and takes their next page where the reader
  // is: same place, same open parts, same pictures.
  const main = () => document.querySelector("main");
  const anchor = () => [...document.querySelectorAll("section[id]")].filter(
    section => section.getBoundingClientRect().top < 80).pop();
  const replace = text => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const section = anchor();
    const place = section && { id: section.id, top: section.getBoundingClientRect().top };
    const named = part => `${part.closest("section")?.id} ${part.querySelector("summary").textContent}`;
    const open = new Set([...document.querySelectorAll("details[open]")].map(named));
    const focused = document.activeElement?.closest("figure")?.getAttribute("aria-label");
    const pictures = new Map([...document.images].map(picture => [picture.src, picture]));
    next.querySelectorAll("img").forEach(picture => {
      const own = pictures.get(picture.src);
      if (own && own.alt === picture.alt) { picture.replaceWith(own); pictures.delete(picture.src); }
    });
    const status = document.querySelector(".live");
    next.querySelector(".live")?.replaceWith(status);
    clear();
    main().replaceWith(document.adoptNode(next.querySelector("main")));
    document.querySelectorAll("details").forEach(part => { part.open = open.has(named(part)); });
    document.title = next.title;
    document.documentElement.dataset.version = next.documentElement.dataset.version;
    enliven(document);
    const now = place && document.getElementById(place.id);
    if (now) scrollBy({ top: now.getBoundingClientRect().top - place.top, behavior: "instant" });
    if (focused) document.querySelector(`figure[aria-label="${CSS.escape(focused)}"] .plot`)?.focus({ preventScroll: true });
  };
  const busy = () => !tip.hidden || document.querySelector("main :active")
    || [...document.querySelectorAll("audio")].some(sound => !sound.paused);
  const ask = async () => {
    const say = (text, trouble) => {
      const status = document.querySelector(".live");
      status.classList.toggle("trouble", Boolean(trouble));
      if (status.textContent !== text) status.textContent = text;
    };
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      say([state.trouble, ...state.runs].filter(Boolean).join(" · "), state.trouble);
      if (state.version !== document.documentElement.dataset.version && !busy()) {
        replace(await (await fetch("./", { cache: "no-store" })).text());
      }
    } catch {
      say("The server has stopped: this is the last page it gave.", true);
    }
    setTimeout(ask, 2000);
  };
  if (document.documentElement.dataset.version) ask();
})();
