# For the templater: where services run, and which version is live.
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "release/" { policy = "read" }

# Keys that templates read.
key_prefix "config/" { policy = "read" }
