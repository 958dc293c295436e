"""A chatbot and a couplet writer: `python -m apps.chatbot --mode=train|eval|infer|export`."""
