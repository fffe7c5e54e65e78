"""Models that live at a service: fine-tunes through the ``openai`` package."""
