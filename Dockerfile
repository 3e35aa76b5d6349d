# syntax=docker/dockerfile:1
# The image has claviger and the libraries that it links to: no shell, and no process of root.
# tests/deploy/image.py executes every step of this file without a container engine.

# The compiler is the rust-version of Cargo.toml. The Debian release is that of the last stage, so the binary links to
# the C library that it meets there. rust-toolchain.toml is not copied: it would fetch another compiler.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# This folder configures the allocator.
COPY .cargo .cargo
COPY config/starter.toml config/
COPY config/roles config/roles
COPY src src
# The caches keep the fetched and compiled dependencies from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin claviger \
    && install -D -m 0755 target/release/claviger out/claviger \
    && install -d -m 0700 out/state

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="claviger" \
      org.opencontainers.image.description="A credential-custody gateway for bastions and directories" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/out/claviger /usr/local/bin/claviger
# A new volume gets the owner of this folder.
COPY --from=build --chown=65532:65532 /src/out/state /var/lib/claviger
# The user is a number, so that an orchestrator can see that it is not root.
USER 65532:65532
ENV CLAVIGER_CONFIG=/etc/claviger/claviger.toml
VOLUME ["/var/lib/claviger"]
EXPOSE 7070
# Calls in flight get 30 s to end: allow the container at least as long.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/claviger", "ready"]
ENTRYPOINT ["/usr/local/bin/claviger"]
CMD ["serve"]
