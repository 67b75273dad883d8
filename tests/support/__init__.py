"""What tests share: tiny models and runs, fabricated results, processes."""
