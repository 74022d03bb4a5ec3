# syntax=docker/dockerfile:1
# The webhook and the command line in one image: one static binary, no shell, no package manager, not root.

# Of the platform that is built for: on a machine of that architecture this needs no cross compiler, and on another one
# (`docker buildx build --platform linux/arm64`) QEMU, and patience. The release builds each architecture on its own kind.
FROM rust:1.95-bookworm AS build
# Writes into the binary which crates it is made of, where scanners and the release's SBOM find it.
RUN cargo install --locked --version 0.7.7 cargo-auditable
WORKDIR /src
COPY . .
# .git stays outside; this is what `--version` says instead. `make image` fills it in.
ARG GIT_DESCRIBE=""
# Linked with the C library inside, which has name resolution by DNS and /etc/hosts built in. Named as a target, so that
# the flag is not for build scripts and macros, which are loaded while it compiles.
ENV GIT_DESCRIBE=${GIT_DESCRIBE} RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    target=$(rustc -vV | sed -n 's/^host: //p') \
    && cargo auditable build --release --locked --bin bonafide --target "$target" \
    && install -D "target/$target/release/bonafide" /out/bonafide \
    && if readelf --program-headers /out/bonafide | grep -q INTERP; then echo "the binary is not static" >&2; exit 1; fi

# The roots of the public certificate authorities for registries, time zones, /tmp, a user, and nothing else.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/bonafide /usr/local/bin/bonafide
USER 65532:65532
EXPOSE 8443 8081
ENTRYPOINT ["/usr/local/bin/bonafide"]
CMD ["--help"]
