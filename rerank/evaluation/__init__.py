"""Whether a newly trained model is good enough to serve: metrics, statistics, the promotion of a ranker."""
