"""What users would pick instead, each as its own documentation has it, and what no Python server gets below."""
