# An image of each program FROM scratch: the program, which loads no library, and whom TLS trusts. Nothing else is in it, and
# none runs as root or writes anywhere but to its volume. Needs Docker alone:
#
#   docker build --target registrar --tag flotilla/registrar .
#
# Below are variants that have beside it what the program calls. examples/images tells which image needs what, and its
# make.sh makes the same images with the Rust of this machine, and pulls nothing.
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG HAPROXY_IMAGE=haproxy:lts
ARG NGINX_IMAGE=nginx:stable

FROM rust:1.95-bookworm AS build
# The build of the engine etcd runs protoc; nft and iptables go into an image.
RUN apt-get update && apt-get install --yes --no-install-recommends protobuf-compiler libprotobuf-dev nftables iptables
WORKDIR /src
COPY . .
RUN examples/images/roots.sh /image kvstore registrar templater overlay hello-web load nft iptables

# The registry: HTTP on 8500, DNS on 53 and 8600. It needs no capability: Docker from 20.03 on opens the low ports to
# everybody in a container. Elsewhere, and with --network host: --sysctl net.ipv4.ip_unprivileged_port_start=0

FROM scratch AS kvstore
LABEL org.opencontainers.image.title="kvstore" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="Registry: keys and values, catalog, health checks, DNS; Consul's HTTP API"
COPY --from=build /image/kvstore /
COPY --from=build --chown=10001:10001 /image/empty /data
USER 10001:10001
EXPOSE 53/udp 53/tcp 8600/udp 8600/tcp 8500/tcp
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s CMD ["/bin/kvstore", "info"]
ENTRYPOINT ["/bin/kvstore"]
CMD ["agent", "--data-dir", "/data", "--http-addr", "0.0.0.0:8500", "--dns-addr", "0.0.0.0:53", "--dns-addr", "0.0.0.0:8600"]

# What it knows itself again by is in /state. Docker's socket is mounted at its usual place, and the group that may use it
# is given by --group-add.

FROM scratch AS registrar
LABEL org.opencontainers.image.title="registrar" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="Follows Docker's events and keeps the registry equal to what runs"
COPY --from=build /image/registrar /
COPY --from=build --chown=10001:10001 /image/empty /state
USER 10001:10001
ENV REGISTRAR_STATE_DIR=/state REGISTRAR_HTTP_ADDR=0.0.0.0:8590
EXPOSE 8590/tcp
VOLUME /state
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/registrar", "health"]
ENTRYPOINT ["/bin/registrar"]

# For proxies in other containers, which it checks and reloads by way of Docker. A volume that is mounted at /out first here
# can be written by it.

FROM scratch AS templater
LABEL org.opencontainers.image.title="templater" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="Keeps the files of proxies equal to the registry, and has them reloaded"
COPY --from=build /image/templater /
COPY --from=build --chown=10001:10001 /image/empty /out
USER 10001:10001
WORKDIR /out
ENV TEMPLATER_HTTP_ADDR=0.0.0.0:8591
EXPOSE 8591/tcp
VOLUME /out
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/templater", "health"]
ENTRYPOINT ["/bin/templater"]

# For its commands, and to be copied from: the daemon also calls nft.

FROM scratch AS overlay
LABEL org.opencontainers.image.title="overlay" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="Addresses for containers that reach each other across hosts, encrypted"
COPY --from=build /image/overlay /
USER 10001:10001
ENTRYPOINT ["/bin/overlay"]

# The web server of the examples.

FROM scratch AS hello-web
COPY --from=build /image/hello-web /
USER 10001:10001
EXPOSE 8080/tcp
ENTRYPOINT ["/bin/hello-web"]

# Its visitors, who count what fails.

FROM scratch AS load
COPY --from=build /image/load /
USER 10001:10001
ENTRYPOINT ["/bin/load"]

# The registry with a shell and what Debian has, for health checks by scripts.

FROM $DEBIAN_IMAGE AS kvstore-shell
LABEL org.opencontainers.image.title="kvstore-shell" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="kvstore, with a shell for health checks by scripts"
COPY --from=build /image/kvstore /
COPY --from=build --chown=10001:10001 /image/empty /data
USER 10001:10001
EXPOSE 53/udp 53/tcp 8600/udp 8600/tcp 8500/tcp
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s CMD ["/bin/kvstore", "info"]
ENTRYPOINT ["/bin/kvstore"]
CMD ["agent", "--data-dir", "/data", "--http-addr", "0.0.0.0:8500", "--dns-addr", "0.0.0.0:53", "--dns-addr", "0.0.0.0:8600"]

# The overlay's daemon, with nft, iptables and the libraries that they load. It is root, in the host's network, and writes to
# its volume.

FROM scratch AS overlay-nft
LABEL org.opencontainers.image.title="overlay-nft" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="The overlay's daemon, with nft, by which it keeps networks apart, and iptables, Docker's"
COPY --from=build /image/overlay /
COPY --from=build /image/nft /
COPY --from=build /image/iptables /
USER 0:0
ENV OVERLAY_SOCKET=/var/lib/overlay/overlay.sock OVERLAY_HTTP_ADDR=127.0.0.1:8592
VOLUME /var/lib/overlay
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/overlay", "health"]
ENTRYPOINT ["/bin/overlay"]
CMD ["up"]

# A proxy and the templater as one container: it starts the proxy when /out/haproxy.cfg or /out/nginx.conf is live, and ends
# with it.

FROM $HAPROXY_IMAGE AS templater-haproxy
LABEL org.opencontainers.image.title="templater-haproxy" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="HAProxy, with the templater that keeps its configuration"
COPY --from=build /image/templater /
COPY --from=build --chown=10001:10001 /image/empty /out
USER 10001:10001
WORKDIR /out
ENV TEMPLATER_HTTP_ADDR=0.0.0.0:8591
EXPOSE 8591/tcp
VOLUME /out
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/templater", "health"]
ENTRYPOINT ["/bin/templater", "--exec", "haproxy -W -db -f /out/haproxy.cfg"]
CMD []

FROM $NGINX_IMAGE AS templater-nginx
LABEL org.opencontainers.image.title="templater-nginx" org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.description="nginx, with the templater that keeps its configuration"
COPY --from=build /image/templater /
COPY --from=build --chown=10001:10001 /image/empty /out
USER 10001:10001
WORKDIR /out
ENV TEMPLATER_HTTP_ADDR=0.0.0.0:8591
EXPOSE 8591/tcp
VOLUME /out
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/templater", "health"]
ENTRYPOINT ["/bin/templater", "--exec", "nginx -c /out/nginx.conf -g 'daemon off;'"]
CMD []
