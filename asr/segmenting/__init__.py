"""Long recordings with their texts → utterances."""
