// Package bucket stores the providers of a registry in an object store: Amazon
// S3, Google Cloud Storage, Azure Blob Storage, or a compatible store.
//
//	b, err := blob.OpenBucket(ctx, "s3://providers?region=eu-west-1")
//	if err != nil {
//		log.Fatal(err)
//	}
//	fsys := bucket.New(b, nil)
//	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{
//		Store:        fsys,
//		RefreshEvery: 10 * time.Second,
//	})
//
// Several registries can serve the same bucket and publish to it. The layout is
// that of a directory: an object's key is the path of the file. Publishing needs a
// store whose conditional writes are atomic. Those of gocloud's fileblob are not.
//
// # Requests
//
// A registry makes requests only when it is asked for something that is not in
// memory, or that was not refreshed for [rekisteri.FSOptions.RefreshEvery].
//
//   - A refresh of a provider is one LIST for each 1,000 of its versions. All
//     providers share the LISTs of the namespace and of the root, which are made
//     about once in RefreshEvery.
//   - A new version is one LIST and a GET for each of SHA256SUMS, its signature
//     and the manifest. A changed key or document is one GET.
//   - A download is a redirect and needs no request. If the registry sends the
//     zip, it is one GET, or two if the client asks for a part. HEAD needs none.
//   - A release that is broken or incomplete is one LIST in each refresh. After
//     its first minute, a refresh lists at most ten of these in a provider.
//
// # Errors
//
// An object is absent only if the store neither finds nor lists it. All other
// errors are outages: what is in memory is still served. It is also an outage if
// the store lists an object that it does not find.
package bucket
