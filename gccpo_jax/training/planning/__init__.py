"""What a run takes before it is started: forward tokens, FLOPs, memory."""
