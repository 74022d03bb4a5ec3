# syntax=docker/dockerfile:1
# The webhook and the command line in one image: no shell, no package manager, not root.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# .git stays outside; this is what `--version` says instead. `make image` fills it in.
ARG GIT_DESCRIBE=""
ENV GIT_DESCRIBE=${GIT_DESCRIBE}
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin bonafide \
    && install -D target/release/bonafide /out/bonafide

# glibc, the roots of the public certificate authorities for registries, and nothing else. Of the same release as the build's.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/bonafide /usr/local/bin/bonafide
USER 65532:65532
EXPOSE 8443 8081
ENTRYPOINT ["/usr/local/bin/bonafide"]
CMD ["--help"]
