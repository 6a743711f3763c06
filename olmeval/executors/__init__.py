"""One `map over jobs` contract and three executors: in process, local worker pool, Ray."""
