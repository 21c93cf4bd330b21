"""What a distillation loss of any framework computes: `python -m analysis.check_loss`."""
