//! Where the replicas of new buckets go. Pure.
