package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// policies returns the policies in docs/bucket.md for a bucket and a user.
func policies(t *testing.T, bucket, user string) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/bucket.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1) {
		var policy map[string]any
		if err := json.Unmarshal(m[1], &policy); err != nil {
			t.Fatal(err)
		}
		for _, s := range policy["Statement"].([]any) {
			s.(map[string]any)["Principal"] = map[string]any{"AWS": user} // it is the bucket's policy here
		}
		text, err := json.Marshal(policy)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.ReplaceAll(string(text), "arn:aws:s3:::providers", "arn:aws:s3:::"+bucket))
	}
	return all
}

// TestPolicies runs the command with the rights that docs/bucket.md asks for.
func TestPolicies(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	name := "policies"
	b := openBucket(t, s, name)
	var client *s3.Client
	if !b.As(&client) {
		t.Fatal("there is no client")
	}
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	put(t, b, "acme/acme.asc", testKey().Armor())
	env := s.AddUser(t, "registry")
	all := policies(t, name, "registry")
	if len(all) != 2 {
		t.Fatalf("docs/bucket.md has %d policies", len(all))
	}
	for file, content := range newRelease(t, "foo", "1.0.0", "first") {
		put(t, b, "acme/foo/1.0.0/"+file, content)
	}
	allow := func(policy string) {
		t.Helper()
		if _, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: &policy}); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-bucket", s.URL(name, s.Addr))...)
		cmd.Env = append(append(os.Environ(), env...), commandVar+"=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	if out, err := command("serve"); err == nil || !strings.Contains(out, "cannot be listed: set credentials that may list and read it") {
		t.Errorf("without a policy: %v\n%s", err, out)
	}

	allow(all[0])
	if out, err := command("check", "-hash"); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	r := startReplica(t, &storetest.Store{Env: env, Secrets: s.Secrets}, s.URL(name, s.Addr))
	if got := r.versions(t); got != "1.0.0" {
		t.Errorf("it lists %s", got)
	}
	if got, err := r.publish(t, "7.0.0", newRelease(t, "foo", "7.0.0", "first")); err != nil || got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "cannot write") {
		t.Errorf("an upload with rights to read: %v, %v", got, err)
	}

	allow(all[1])
	files := newRelease(t, "foo", "8.0.0", "first")
	if got, err := r.publish(t, "8.0.0", files); err != nil || got.status != http.StatusCreated {
		t.Errorf("an upload with rights to publish: %v, %v", got, err)
	}
	r.wantServed(t, "8.0.0", files)
	staged, _, err := b.ListPage(t.Context(), blob.FirstPageToken, 10, &blob.ListOptions{Prefix: "acme/.upload/"})
	if err != nil || len(staged) > 0 {
		t.Errorf("%d objects are left of the upload, %v", len(staged), err)
	}
}
