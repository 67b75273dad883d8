"""Models as the trainers see them: a policy around a pipeline of diffusers."""
