# syntax=docker/dockerfile:1
# claviger, on nothing but the libraries that it links to: no shell, and nobody who is root.
# tests/deploy/image.py does every step of this file without an engine.

# The rust-version of Cargo.toml, on the Debian of the last stage: the C library linked to is the one it meets.
# rust-toolchain.toml stays out, since it would fetch another compiler than this image's.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# It sets up the allocator.
COPY .cargo .cargo
COPY config/starter.toml config/
COPY config/roles config/roles
COPY src src
# What was fetched and built of the dependencies is kept from one build to the next.
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
# A new volume takes over whose this folder is.
COPY --from=build --chown=65532:65532 /src/out/state /var/lib/claviger
# In numbers, so that it can be seen from outside not to be root.
USER 65532:65532
ENV CLAVIGER_CONFIG=/etc/claviger/claviger.toml
VOLUME ["/var/lib/claviger"]
EXPOSE 7070
# Calls in flight get 30 s to end: allow the container no less.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/claviger", "ready"]
ENTRYPOINT ["/usr/local/bin/claviger"]
CMD ["serve"]
