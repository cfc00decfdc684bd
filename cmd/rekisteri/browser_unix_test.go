//go:build unix

package main

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/internal/chromium"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

var screenshots = flag.String("screenshots", "", "write screenshots of the pages to this `directory`")

// browseTree writes a tree for pages: the sample's release as acme/hello, a broken
// one, a provider with a warning, one with 400 versions, and some others.
func browseTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) { servertest.WriteFile(t, filepath.Join(dir, name), string(data)) }
	read := func(name string) []byte {
		data, err := sample.ReadFile("sample/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write("acme/acme.asc", read("demo/demo.asc"))
	files, err := fs.ReadDir(sample, "sample/demo/hello/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		write("acme/hello/1.0.0/"+f.Name(), read("demo/hello/1.0.0/"+f.Name()))
	}
	write("acme/hello/1.1.0/terraform-provider-hello_1.1.0_SHA256SUMS", []byte(strings.ReplaceAll(string(read("demo/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS")), "1.0.0", "1.1.0")))

	var random struct {
		Versions []map[string]any `json:"versions"`
	}
	renamed := regexp.MustCompile(`"source(_url)?": "[^"]*"`).ReplaceAll(read("hashicorp/random.json"), []byte(`"source$1": "https://platform.acme.example"`))
	if err := json.Unmarshal(renamed, &random); err != nil {
		t.Fatal(err)
	}
	document := func(provider, warning string, platforms []string, versions ...string) {
		doc := map[string]any{"versions": []any{}}
		if warning != "" {
			doc["warnings"] = []string{warning}
		}
		for _, version := range versions {
			v := maps.Clone(random.Versions[0])
			from := v["platforms"].([]any)[0].(map[string]any)
			var all []any
			for _, on := range platforms {
				p := maps.Clone(from)
				p["os"], p["arch"], _ = strings.Cut(on, "_")
				p["filename"] = fmt.Sprintf("terraform-provider-x_%s_%s.zip", version, on)
				all = append(all, p)
			}
			v["version"], v["platforms"], v["protocols"] = version, all, []string{"6.0"}
			doc["versions"] = append(doc["versions"].([]any), v)
		}
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		write(provider+".json", data)
	}
	usual := []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64", "windows_amd64"}
	for _, typ := range []string{"billing", "dns", "edge-gateway", "feature-flags", "identity", "ldap", "on-call", "vault-policies"} {
		document("acme/"+typ, "", usual, "1.0.0", "1.1.0")
	}
	for _, provider := range []string{"data-platform/airflow", "data-platform/catalog", "data-platform/lakehouse", "data-platform/warehouse", "networking/edge", "networking/mesh", "networking/router"} {
		document(provider, "", usual, "1.0.0")
	}
	document("acme/kafka-topics", "acme/kafka-topics is replaced by acme/streaming. Migrate before March: see the platform handbook.",
		usual, "0.4.0", "0.4.1", "1.0.0", "1.1.0", "2.0.0", "2.1.0", "3.0.0-rc.1")
	var history []string
	for i := range 400 {
		history = append(history, fmt.Sprintf("%d.%d.0", i/20, i%20))
	}
	document("archive/history", "", append([]string{"freebsd_386", "freebsd_amd64", "freebsd_arm", "linux_386", "linux_arm", "openbsd_386", "openbsd_amd64", "solaris_amd64", "windows_386"}, usual...), history...)
	return dir
}

// quiet wants nothing in a tab's console.
func quiet(t *testing.T, tab *chromium.Tab) {
	t.Helper()
	for _, m := range tab.Messages() {
		t.Errorf("the console has %s", m)
	}
}

// focus presses Tab until the focus is on an element with a text or a label.
func focus(t *testing.T, tab *chromium.Tab, want string) {
	t.Helper()
	const focused = `(() => {
		const e = document.activeElement;
		if (getComputedStyle(e).outlineStyle === "none") return "no outline: " + e.outerHTML;
		return (e.labels?.[0] ?? e).textContent.trim() || e.getAttribute("aria-label");
	})()`
	var passed []string
	for range 60 {
		tab.Press("Tab")
		at := chromium.Eval[string](tab, focused)
		if at == want {
			return
		}
		passed = append(passed, at)
	}
	t.Fatalf("Tab does not lead to %q, but to %q", want, passed)
}

// TestBrowser uses the pages with the keyboard alone, and installs the provider
// with the block that they copy.
func TestBrowser(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	tree := browseTree(t)
	strip := func(t *testing.T) string {
		reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS(tree), nil), nil)
		below := http.NewServeMux()
		below.Handle("/", browse.New(reg, nil))
		below.Handle("/v1/", reg)
		below.Handle("/files/", reg)
		mux := http.NewServeMux()
		mux.Handle("/portal/tf/", http.StripPrefix("/portal/tf", below))
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		return srv.URL + "/portal/tf"
	}
	for _, test := range []struct {
		name  string
		start func(t *testing.T) string // returns the URL of the list, without a slash
	}{
		{name: "root", start: func(t *testing.T) string { return start(t, "-dir", tree).URL }},
		{name: "prefix", start: func(t *testing.T) string { return start(t, "-dir", tree, "-prefix", "/tf").URL }},
		{name: "StripPrefix", start: strip},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := strings.Replace(test.start(t), "127.0.0.1", "localhost", 1)
			tab := b.NewTab(t)
			tab.Open(root) // a prefix redirects
			if got := chromium.Eval[string](tab, "location.href"); got != root+"/" {
				t.Errorf("%s leads to %s", root, got)
			}
			focus(t, tab, "Filter by name")
			tab.Type("hello")
			tab.AwaitLoad(func() { tab.Press("Enter") })
			if n := chromium.Eval[int](tab, `document.querySelectorAll(".rk-group li").length`); n != 1 {
				t.Errorf("the filter leaves %d providers", n)
			}
			focus(t, tab, "hello")
			tab.AwaitLoad(func() { tab.Press("Enter") })
			if got, want := chromium.Eval[string](tab, "location.href"), root+"/providers/acme/hello"; got != want {
				t.Fatalf("the link leads to %s, want %s", got, want)
			}
			focus(t, tab, "Copy")
			tab.Press("Enter")
			servertest.Within(t, 10*time.Second, func() bool {
				return chromium.Eval[string](tab, `document.activeElement.textContent`) == "Copied"
			})
			block := chromium.Eval[string](tab, "navigator.clipboard.readText()")
			focus(t, tab, "This registry has no TLS")
			tab.Press("Enter")
			focus(t, tab, "Copy")
			tab.Press("Space")
			servertest.Within(t, 10*time.Second, func() bool {
				return chromium.Eval[string](tab, `document.activeElement.textContent`) == "Copied"
			})
			config := chromium.Eval[string](tab, "navigator.clipboard.readText()")
			focus(t, tab, "Providers")
			tab.AwaitLoad(func() { tab.Press("Enter") })
			if got := chromium.Eval[string](tab, "location.href"); got != root+"/" {
				t.Errorf("the trail leads to %s", got)
			}
			quiet(t, tab)

			for _, name := range servertest.Clients() {
				t.Run(name, func(t *testing.T) {
					client := servertest.LookClient(t, name)
					dir, file := t.TempDir(), filepath.Join(t.TempDir(), "terraform.rc")
					servertest.WriteFile(t, filepath.Join(dir, "main.tf"), block)
					servertest.WriteFile(t, file, config)
					wantInstalled(t, client, dir, cleanEnv(t, "TF_CLI_CONFIG_FILE="+file))
				})
			}
		})
	}
}

// TestBrowserLook opens all kinds of pages in light and dark, wide and narrow:
// nothing is wider than the window, and all text has enough contrast.
func TestBrowserLook(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	s := start(t, "-dir", browseTree(t), "-external-url", "https://registry.acme.example")
	tab := b.NewTab(t)
	for name, path := range map[string]string{
		"list": "/", "filter": "/?q=data-platform/", "nothing": "/?q=%3Cscript%3Ealert(1)%3C/script%3E" + strings.Repeat("x", 200),
		"hello": "/providers/acme/hello", "warning": "/providers/acme/kafka-topics", "history": "/providers/archive/history", "missing": "/providers/acme/none",
	} {
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int{1000, 400} {
				tab.Size(width, 900)
				tab.Scheme(scheme)
				tab.Open(s.URL + path)
				if got := chromium.Eval[int](tab, "document.documentElement.scrollWidth"); got > width {
					t.Errorf("%s is %d wide in a window of %d", name, got, width)
				}
				if dim := chromium.Eval[string](tab, contrast); dim != "" {
					t.Errorf("%s, %s: too little contrast: %s", name, scheme, dim)
				}
				if unnamed := chromium.Eval[string](tab, names); unnamed != "" {
					t.Errorf("%s: an element has no name: %s", name, unnamed)
				}
				if name == "missing" {
					tab.Messages() // Chromium reports the 404
				}
				quiet(t, tab)
				if *screenshots != "" {
					height := chromium.Eval[int](tab, "document.documentElement.scrollHeight")
					tab.Size(width, min(height, 4000))
					file := filepath.Join(*screenshots, fmt.Sprintf("%s-%s-%d.png", name, scheme, width))
					if err := os.WriteFile(file, tab.Screenshot(), 0o666); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// TestBrowserHostile opens the page of a provider that wants to do harm.
func TestBrowserHostile(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	dir := t.TempDir()
	text := `<script>window.harmed = 1</script><img src=x onerror="window.harmed = 1">` + "\u202E\u2066" + strings.Repeat("x", 3000)
	data, err := sample.ReadFile("sample/hashicorp/random.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(regexp.MustCompile(`"source_url": "[^"]*"`).ReplaceAll(data, []byte(`"source_url": "javascript:window.harmed=1"`)), &doc); err != nil {
		t.Fatal(err)
	}
	doc["warnings"] = []string{text}
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	servertest.WriteFile(t, filepath.Join(dir, "acme/odd.json"), string(data))
	if err := os.Mkdir(filepath.Join(dir, `acme/<img src=x onerror="window.harmed = 1">`), 0o777); err != nil {
		t.Fatal(err)
	}
	servertest.WriteFile(t, filepath.Join(dir, `acme/odd/<img src=x onerror="window.harmed = 1">/terraform-provider-odd_1.0.0_SHA256SUMS`), "")
	s := start(t, "-dir", dir)
	tab := b.NewTab(t)
	tab.Size(400, 900)
	for _, path := range []string{"/", "/providers/acme/odd"} {
		tab.Open(s.URL + path)
		if chromium.Eval[bool](tab, `window.harmed === 1 || document.querySelector("main img, main script, [onerror]") !== null`) {
			t.Errorf("%s: the tree put an element into the page", path)
		}
		if width := chromium.Eval[int](tab, "document.documentElement.scrollWidth"); width > 400 {
			t.Errorf("%s is %d wide", path, width)
		}
		quiet(t, tab)
	}
	if links := chromium.Eval[int](tab, `document.querySelectorAll("a[href^=javascript]").length`); links > 0 {
		t.Errorf("the page has %d links that are scripts", links)
	}
	if text := chromium.Eval[string](tab, "document.body.innerText"); !strings.Contains(text, `<img src=x onerror="window.harmed = 1">/`) || !strings.Contains(text, "<script>window") {
		t.Errorf("the page shows\n%.3000s", text)
	}
}

// contrast is an expression that returns the first text whose contrast is below
// 4.5, which is what WCAG asks for.
const contrast = `(() => {
	const parse = c => (c.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
	const luminance = c => {
		const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || !e.checkVisibility()) continue;
		let at = e, back = [0, 0, 0, 0];
		while (at && (back = parse(getComputedStyle(at).backgroundColor))[3] === 0) at = at.parentElement;
		if (!at) return "no background: " + e.outerHTML;
		const [dark, light] = [luminance(parse(getComputedStyle(e).color)), luminance(back)].sort((a, b) => a - b);
		if ((light + 0.05) / (dark + 0.05) < 4.5) return ((light + 0.05) / (dark + 0.05)).toFixed(2) + " " + e.outerHTML;
	}
	return "";
})()`

// names is an expression that returns the first link, field or button without a
// name, and the first heading that skips a level.
const names = `(() => {
	for (const e of document.querySelectorAll("a, button, input, [tabindex]")) {
		if (!e.textContent.trim() && !e.labels?.length && !e.getAttribute("aria-label")) return e.outerHTML;
	}
	let level = 0;
	for (const h of document.querySelectorAll("h1, h2, h3")) {
		if (h.tagName[1] > level + 1) return h.outerHTML;
		level = Number(h.tagName[1]);
	}
	return document.querySelectorAll("h1").length === 1 && document.documentElement.lang ? "" : "no heading or language";
})()`

// TestBrowserWithoutScripts uses the pages without scripts: nothing is lost but
// the buttons that copy.
func TestBrowserWithoutScripts(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	s := start(t, "-dir", browseTree(t))
	tab := b.NewTab(t)
	tab.Scripts(false)
	tab.Open(s.URL + "/")
	focus(t, tab, "Filter by name")
	tab.Type("networking/")
	tab.AwaitLoad(func() { tab.Press("Enter") })
	focus(t, tab, "mesh")
	tab.AwaitLoad(func() { tab.Press("Enter") })
	if text := chromium.Eval[string](tab, "document.body.innerText"); !strings.Contains(text, "/networking/mesh\"") || strings.Contains(text, "Copy") {
		t.Errorf("the page shows\n%s", text)
	}
	quiet(t, tab)
}

// TestBrowserSignIn opens the pages of a private registry.
func TestBrowserSignIn(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	const token = "a-token"
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, fmt.Appendf(nil, "%x acme\n", sha256.Sum256([]byte(token))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "-dir", browseTree(t), "-tokens", tokens)
	tab := b.NewTab(t)
	tab.Open(strings.Replace(s.URL, "http://", "http://anybody:"+token+"@", 1) + "/")
	if text := chromium.Eval[string](tab, "document.body.innerText"); !strings.Contains(text, "hello") || strings.Contains(text, "networking") {
		t.Errorf("the list shows\n%s", text)
	}
	focus(t, tab, "hello")
	tab.AwaitLoad(func() { tab.Press("Enter") })
	if text := chromium.Eval[string](tab, "document.body.innerText"); !strings.Contains(text, "This registry needs your token") {
		t.Errorf("the page shows\n%s", text)
	}
	quiet(t, tab)
	if status := chromium.Eval[int](tab, "fetch('../../v1/providers/acme/hello/versions').then(r => r.status).catch(() => -1)"); status == http.StatusOK {
		t.Error("the browser's password opens the documents, too")
	}
}

// TestBrowserLongList opens a list of 5,000 providers. It logs how long that
// takes.
func TestBrowserLongList(t *testing.T) {
	skipLong(t)
	b := chromium.Start(t)
	dir := t.TempDir()
	doc, err := sample.ReadFile("sample/hashicorp/random.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		name := filepath.Join(dir, fmt.Sprintf("team-%02d/provider-%03d.json", i/100, i%100))
		if i == 0 {
			servertest.WriteFile(t, name, string(doc))
		} else if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		} else if err := os.Link(filepath.Join(dir, "team-00/provider-000.json"), name); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "-dir", dir)
	tab := b.NewTab(t)
	tab.Open(s.URL + "/")
	var timing struct {
		Wire, Millis float64
	}
	measured := chromium.Eval[string](tab, `(n => JSON.stringify({Wire: n.transferSize, Millis: n.loadEventEnd - n.startTime}))(performance.getEntriesByType("navigation")[0])`)
	if err := json.Unmarshal([]byte(measured), &timing); err != nil || timing.Wire == 0 || timing.Wire > 200_000 {
		t.Errorf("%s: %v", measured, err)
	}
	t.Logf("the list was loaded in %.0f ms, with %.0f bytes on the wire", timing.Millis, timing.Wire)
	for pages := 1; ; pages++ {
		if !chromium.Eval[bool](tab, `document.querySelector(".rk-next") !== null`) {
			if pages != 25 {
				t.Errorf("the list has %d pages", pages)
			}
			break
		}
		tab.AwaitLoad(func() { chromium.Eval[any](tab, `document.querySelector(".rk-next").click()`) })
	}
	quiet(t, tab)
}
