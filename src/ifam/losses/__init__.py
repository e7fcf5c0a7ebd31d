"""Training losses: functions on tensors, and the objective that weighs them."""
