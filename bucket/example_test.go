package bucket_test

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/memblob" // or s3blob, gcsblob, azureblob
)

func ExampleNew() {
	b, err := blob.OpenBucket(context.Background(), "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	fsys := bucket.New(b, nil)
	if err := fsys.Probe(context.Background()); err != nil {
		log.Fatal(err) // releases cannot be published to it
	}
	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{
		Store:        fsys,
		RefreshEvery: 10 * time.Second,
	})
	tokens, err := rekisteri.NewTokenFile("tokens", nil)
	if err != nil {
		log.Fatal(err)
	}
	reg := rekisteri.New(backend, &rekisteri.Options{
		Authorize: tokens.Authorize,
		Publish:   &rekisteri.PublishOptions{To: backend.Publisher(), Authorize: tokens.AuthorizePublish},
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:5000", reg))
}
