"""What a recogniser found → transcripts with word times and confidences, in every output format. No torch."""
