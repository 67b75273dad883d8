"""The published training loops beside ours, on the embedded model: what their structure costs.

flow_grpo, DiffusionNFT, AWM and Flow-Factory publish code for Stable Diffusion 3.5 on GPUs. Their
loops are built anew here, in torch and diffusers, from what their code does (``structures.py``:
each with repository, commit and files; none of it is copied), and trained on the embedded pipeline
with the prompts, start noises, reward (the judge of scenes), LoRA layers and batch (8 prompts of 8
images) of our own trainer.

Kept of each: which model is evaluated at how many points of a sample, with a gradient and without,
and in calls of how many rows; one backward for each timestep (Flow-GRPO, DiffusionNFT,
Flow-Factory) or for all points of a micro-batch (AWM); prompts encoded in every step, a row for
each image, or known beforehand (Flow-Factory); rewards by futures of a pool of threads, or after
the last batch (Flow-Factory's default); a second adapter that is switched on by name, the adapter
switched off for the reference, or values put in its place; averages and their decays; which
samples are left out; updates a step.

Of our recipes: learning rate and its schedule, clips, scale of the advantage, 10 sampling steps
where a peer has 14, and no guidance where flow_grpo and Flow-Factory's GRPO double every batch by
it. The number of samples is ours, so that a micro-batch holds as many of them as fit into
``training.micro_batch_size`` rows. The losses are those of ``adrpo``: a test holds the gradient of
each loop to that of our loss on the same samples. Weights 'ghuber' of AWM are not kept; the paper's
uniform ones are ours. What only a cluster needs is left out, and so are W&B, pictures and
checkpoints, on both sides. The trained policy is evaluated, not its average, which would hold a
short run back.

``python -m benchmarks.peer_loops`` measures; see ``__main__.py``.
"""
