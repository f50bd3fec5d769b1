# The operator's image for those who build with Docker. `.ci/image` builds it without: the same program by the same script,
# and a digest that can be compared. Programs for both platforms are compiled on the builder's own.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /tenure
COPY . .
ARG TARGETARCH
RUN .ci/binary "$TARGETARCH" && mv "target/image/$TARGETARCH" /image

FROM scratch
COPY --from=build /image /
LABEL org.opencontainers.image.title="tenure" \
      org.opencontainers.image.description="Token lifetimes of network equipment as Kubernetes resources" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
WORKDIR /
EXPOSE 8080
ENTRYPOINT ["/tenure"]
CMD ["run"]
