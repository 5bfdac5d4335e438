# For whoever asks DNS: names of services, hosts and prepared queries.
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
query_prefix "" { policy = "read" }

# Which version is live, and which one a caller belongs to.
key_prefix "release/" { policy = "read" }
key_prefix "callers/" { policy = "read" }

# Which networks of the overlay there are, whose containers are found by bare names.
key_prefix "overlay/v1/nets/" { policy = "read" }
