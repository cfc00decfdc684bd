// Package storetest starts object stores for tests, and stands between them and
// their clients. Nothing but tests imports it.
package storetest

import (
	"bytes"
	"cmp"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

// A Store is an object store on this machine, in a process of its own.
type Store struct {
	Name string // of the kind of store
	Addr string // its host and port

	// Env are the variables with which a process gets access to the store.
	Env []string

	// Secrets must be in no log.
	Secrets []string

	// URL returns the URL of a bucket, as the store itself or a proxy at addr
	// serves it.
	URL func(bucket, addr string) string

	// NoLinks is set if the store has no links to objects: they must be streamed.
	NoLinks bool

	create  func(tb testing.TB, bucket string)
	addUser func(tb testing.TB, name, secret string)
	number  atomic.Int64
}

// Each runs a test with each kind of store. Those that are not installed are
// skipped; but if CI is set, there must be an S3 server.
func Each(t *testing.T, test func(*testing.T, *Store)) {
	t.Run("S3", func(t *testing.T) { test(t, S3(t)) })
	t.Run("GCS", func(t *testing.T) { test(t, GCS(t)) })
	t.Run("Azure", func(t *testing.T) { test(t, Azure(t)) })
}

// NewBucket makes a bucket, and returns its name.
func (s *Store) NewBucket(tb testing.TB) string {
	tb.Helper()
	name := "providers" + string('a'+rune(s.number.Add(1)))
	s.create(tb, name)
	return name
}

// Setenv gives this process access to the store until the test ends.
func (s *Store) Setenv(tb testing.TB) {
	for _, e := range s.Env {
		if name, value, _ := strings.Cut(e, "="); os.Getenv(name) != value {
			tb.Setenv(name, value)
		}
	}
}

// AddUser makes a user of an S3 server, who may do nothing, and returns the
// variables with which a process becomes that user.
func (s *Store) AddUser(tb testing.TB, name string) (env []string) {
	tb.Helper()
	const secret = "tHe-SeCrEt-Of-A-uSeR-oF-tHe-TeSt"
	s.addUser(tb, name, secret)
	return []string{"AWS_ACCESS_KEY_ID=" + name, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_EC2_METADATA_DISABLED=true"}
}

// What every S3 server of this package lets in.
const (
	s3Key    = "AKIDEXAMPLE"
	S3Secret = "tHe-SeCrEt-AcCeSs-KeY-oF-tHe-TeSt"
)

// S3Env returns the variables that give a process access to every S3 server of
// this package. If they are set before the tests, these can run in parallel.
func S3Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + S3Secret, "AWS_EC2_METADATA_DISABLED=true"}
}

// S3 starts versitygw, an S3 server over a directory.
func S3(tb testing.TB) *Store {
	tb.Helper()
	bin := look(tb, "VERSITYGW", "versitygw", os.Getenv("CI") != "")
	dir, users := tb.TempDir(), tb.TempDir()
	s := &Store{
		Name: "S3", Addr: freeAddr(tb),
		Env:     S3Env(),
		Secrets: []string{S3Secret, "X-Amz-Signature", "X-Amz-Credential"},
		URL: func(bucket, addr string) string {
			return "s3://" + bucket + "?endpoint=http://" + addr + "&region=us-east-1&use_path_style=true"
		},
		create: func(tb testing.TB, bucket string) {
			if err := os.Mkdir(filepath.Join(dir, bucket), 0o777); err != nil {
				tb.Fatal(err)
			}
		},
	}
	s.addUser = func(tb testing.TB, name, secret string) {
		cmd := exec.Command(bin, "admin", "--access", s3Key, "--secret", S3Secret, "--endpoint-url", "http://"+s.Addr,
			"create-user", "--access", name, "--secret", secret, "--role", "user")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%v\n%s", err, out)
		}
	}
	// Not with --sidecar, although not every file system has extended attributes:
	// an object would be there, for conditional writes, before it can be found.
	s.run(tb, []string{"ROOT_ACCESS_KEY=" + s3Key, "ROOT_SECRET_KEY=" + S3Secret},
		bin, "--port", s.Addr, "--keep-alive", "--quiet", "--iam-dir", users, "posix", dir)
	return s
}

// GCS starts fake-gcs-server.
func GCS(tb testing.TB) *Store {
	tb.Helper()
	bin := look(tb, "FAKE_GCS_SERVER", "fake-gcs-server", false)
	s := &Store{
		Name: "GCS", Addr: freeAddr(tb), NoLinks: true,
		URL: func(bucket, _ string) string { return "gs://" + bucket },
	}
	s.Env = []string{"STORAGE_EMULATOR_HOST=" + s.Addr}
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	s.create = func(tb testing.TB, bucket string) {
		resp, err := http.Post("http://"+s.Addr+"/storage/v1/b?project=test", "application/json", strings.NewReader(`{"name":"`+bucket+`"}`))
		if err != nil {
			tb.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			tb.Fatal(resp.Status)
		}
	}
	s.run(tb, nil, bin, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-public-host", s.Addr, "-log-level", "error")
	return s
}

// The account of every azurite.
const (
	azureAccount = "devstoreaccount1"
	azureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Azure starts azurite. Its clients have the key of the account.
func Azure(tb testing.TB) *Store {
	tb.Helper()
	bin := look(tb, "AZURITE", "azurite-blob", false)
	s := &Store{
		Name: "Azure", Addr: freeAddr(tb),
		Env:     []string{"AZURE_STORAGE_ACCOUNT=" + azureAccount, "AZURE_STORAGE_KEY=" + azureKey},
		Secrets: []string{azureKey, "sig="},
		URL: func(bucket, addr string) string {
			return "azblob://" + bucket + "?protocol=http&domain=" + addr
		},
	}
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	credential, err := container.NewSharedKeyCredential(azureAccount, azureKey)
	if err != nil {
		tb.Fatal(err)
	}
	s.create = func(tb testing.TB, bucket string) {
		client, err := container.NewClientWithSharedKeyCredential("http://"+s.Addr+"/"+azureAccount+"/"+bucket, credential, nil)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := client.Create(tb.Context(), nil); err != nil {
			tb.Fatal(err)
		}
	}
	s.run(tb, nil, bin, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", tb.TempDir(), "--silent", "--disableTelemetry", "--skipApiVersionCheck")
	return s
}

// TokenEnv returns the variables with which a process gets access to Azure by a
// shared access signature, which is a part of each URL, at an address.
func TokenEnv(tb testing.TB, addr string) []string {
	tb.Helper()
	credential, err := container.NewSharedKeyCredential(azureAccount, azureKey)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := sas.AccountSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().Add(time.Hour),
		Permissions:   (&sas.AccountPermissions{Read: true, List: true, Write: true, Create: true, Delete: true}).String(),
		ResourceTypes: (&sas.AccountResourceTypes{Service: true, Container: true, Object: true}).String(),
	}.SignWithSharedKey(credential)
	if err != nil {
		tb.Fatal(err)
	}
	return []string{
		"AZURE_STORAGE_ACCOUNT=" + azureAccount, "AZURE_STORAGE_KEY=", "AZURE_STORAGE_SAS_TOKEN=" + token.Encode(),
		"AZURE_STORAGE_PROTOCOL=http", "AZURE_STORAGE_DOMAIN=" + addr,
	}
}

// look returns the path of a program, from a variable or the PATH. If there is
// none, it skips or fails the test.
func look(tb testing.TB, variable, name string, must bool) string {
	tb.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv(variable), name))
	if err == nil {
		return path
	}
	if must {
		tb.Fatalf("there is no %s, and %s does not name one", name, variable)
	}
	tb.Skipf("there is no %s, and %s does not name one", name, variable)
	return ""
}

// freeAddr returns an address that nothing listens on.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// run starts a program that serves the store until the test ends, and waits
// until it listens.
func (s *Store) run(tb testing.TB, env []string, name string, args ...string) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	for {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			tb.Fatalf("%s ended:\n%s", name, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
