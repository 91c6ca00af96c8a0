"""The study on real Whisper models and human speech, and its word times beside another program's."""
