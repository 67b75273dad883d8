"""One policy for each family of diffusers' text-to-image pipelines; ``load_policy`` picks it."""
