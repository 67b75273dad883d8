"""Audio-language models: so far the benchmarks that they are measured on."""
