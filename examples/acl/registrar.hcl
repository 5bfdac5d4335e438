# For the registrar: it registers any service, and the versions of containers that ask DNS.
service_prefix "" { policy = "write" }
key_prefix "callers/" { policy = "write" }

# It looks at what its node holds, and asks the agent for the node's name.
node_prefix "" { policy = "read" }
agent_prefix "" { policy = "read" }

# With --node NAME, where no agent runs, it registers this host, too:
# node "NAME" { policy = "write" }
