//! Every metric: names, help, labels, buckets. Label values are closed sets.
