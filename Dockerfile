# An image of each program FROM scratch: the program, the libraries that it loads, and whom TLS trusts. Nothing else is in
# it, and none runs as root. Needs Docker alone:
#
#   docker build --target registrar --tag flotilla/registrar .       or kvstore, templater, hello-web
#
# examples/images/make.sh makes the same images with the Rust of this machine, and pulls nothing.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN examples/images/roots.sh /image kvstore registrar templater hello-web

# The registry: HTTP on 8500, DNS on 53 and 8600. It needs no capability: Docker from 20.03 on opens the low ports to
# everybody in a container. Elsewhere, and with --network host: --sysctl net.ipv4.ip_unprivileged_port_start=0

FROM scratch AS kvstore
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
COPY --from=build /image/registrar /
COPY --from=build --chown=10001:10001 /image/empty /state
USER 10001:10001
ENV REGISTRAR_STATE_DIR=/state REGISTRAR_HTTP_ADDR=0.0.0.0:8590
EXPOSE 8590/tcp
VOLUME /state
HEALTHCHECK --interval=10s --timeout=10s CMD ["/bin/registrar", "health"]
ENTRYPOINT ["/bin/registrar"]

# A volume that is mounted at /out first here can be written by it.

FROM scratch AS templater
COPY --from=build /image/templater /
COPY --from=build --chown=10001:10001 /image/empty /out
USER 10001:10001
WORKDIR /out
ENTRYPOINT ["/bin/templater"]

# The web server of the examples.

FROM scratch AS hello-web
COPY --from=build /image/hello-web /
USER 10001:10001
EXPOSE 8080/tcp
ENTRYPOINT ["/bin/hello-web"]
