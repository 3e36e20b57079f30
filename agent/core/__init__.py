"""What the agent decides, without doing any of it: values in, values out."""
