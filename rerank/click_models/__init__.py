"""From what shoppers clicked to what they wanted: click logs, click models, simulated shoppers, labels."""
