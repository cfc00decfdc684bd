# The command alone, in an empty image, for a user without privileges. Mount the
# providers at /providers; any command and its flags can follow the image's name.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /rekisteri ./cmd/rekisteri

FROM scratch
COPY --from=build /rekisteri /rekisteri
ENV REKISTERI_ADDR=:5000 REKISTERI_DIR=/providers
USER 65532:65532
EXPOSE 5000
ENTRYPOINT ["/rekisteri"]
