//go:build unix

package chromium

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// timeout is the limit of a single step. It is long enough for a slow machine.
const timeout = time.Minute

// A Browser is a running Chromium.
type Browser struct {
	in io.Writer

	mu      sync.Mutex
	next    int
	waiting map[int]chan message
	tabs    map[string]*Tab // by session
	ended   error
}

// A message is a message of the protocol, in either direction.
type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// Start starts a browser for a test. If there is none on this machine, the test is
// skipped. It fails if CI is set on Linux.
func Start(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	switch {
	case path != "":
	case os.Getenv("CI") != "" && runtime.GOOS == "linux":
		t.Fatal("there is no Chromium on this machine")
	default:
		t.Skip("there is no Chromium on this machine")
	}
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--hide-scrollbars", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	b := &Browser{in: in, waiting: make(map[int]chan message), tabs: make(map[string]*Tab)}
	go b.read(out)
	t.Cleanup(func() {
		b.call("", "Browser.close", nil)
		timer := time.AfterFunc(timeout, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		in.Close()
		out.Close()
		if t.Failed() {
			t.Logf("Chromium printed:\n%s", stderr.String())
		}
	})
	return b
}

// read reads messages until the browser ends.
func (b *Browser) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			b.end(err)
			return
		}
		var m struct {
			message
			Params json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			b.end(err)
			return
		}
		b.mu.Lock()
		wait, tab := b.waiting[m.ID], b.tabs[m.SessionID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case wait != nil:
			wait <- m.message
		case tab != nil && m.Method != "":
			tab.event(m.Method, m.Params)
		}
	}
}

func (b *Browser) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = fmt.Errorf("the browser ended: %w", err)
	for id, wait := range b.waiting {
		close(wait)
		delete(b.waiting, id)
	}
}

// call calls a method of the protocol.
func (b *Browser) call(session, method string, params any) (json.RawMessage, error) {
	b.mu.Lock()
	if b.ended != nil {
		defer b.mu.Unlock()
		return nil, b.ended
	}
	b.next++
	m := message{ID: b.next, SessionID: session, Method: method, Params: params}
	wait := make(chan message, 1)
	b.waiting[m.ID] = wait
	line, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(line, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case answer, ok := <-wait:
		switch {
		case !ok:
			return nil, b.ended
		case answer.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, answer.Error.Message)
		}
		return answer.Result, nil
	case <-time.After(timeout):
		return nil, fmt.Errorf("%s: no answer within %v", method, timeout)
	}
}

// A Tab is a page of the browser.
type Tab struct {
	t       testing.TB
	b       *Browser
	session string
	loaded  chan struct{}

	mu       sync.Mutex
	messages []string
}

// NewTab opens an empty tab for a test. The tab may use the clipboard.
func (b *Browser) NewTab(t testing.TB) *Tab {
	t.Helper()
	tab := &Tab{t: t, b: b, loaded: make(chan struct{}, 1)}
	var target struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
	}
	b.must(t, &target, "", "Target.createTarget", map[string]any{"url": "about:blank"})
	b.must(t, &target, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	tab.session = target.SessionID
	b.mu.Lock()
	b.tabs[tab.session] = tab
	b.mu.Unlock()
	b.must(t, nil, "", "Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		tab.must(nil, domain+".enable", nil)
	}
	return tab
}

// must calls a method, and fails the test if that returns an error.
func (b *Browser) must(t testing.TB, result any, session, method string, params any) {
	t.Helper()
	answer, err := b.call(session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(answer, result)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (tab *Tab) must(result any, method string, params any) {
	tab.t.Helper()
	tab.b.must(tab.t, result, tab.session, method, params)
}

// event handles an event of the protocol.
func (tab *Tab) event(method string, params json.RawMessage) {
	switch method {
	case "Page.loadEventFired":
		select {
		case tab.loaded <- struct{}{}:
		default:
		}
	case "Runtime.exceptionThrown", "Log.entryAdded":
		tab.mu.Lock()
		tab.messages = append(tab.messages, string(params))
		tab.mu.Unlock()
	case "Runtime.consoleAPICalled":
		var called struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(params, &called); err != nil || called.Type == "error" || called.Type == "warning" || called.Type == "assert" {
			tab.mu.Lock()
			tab.messages = append(tab.messages, string(params))
			tab.mu.Unlock()
		}
	}
}

// Messages returns the errors and warnings in the console, and removes them.
func (tab *Tab) Messages() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	messages := tab.messages
	tab.messages = nil
	return messages
}

// Open opens a URL, and waits until the page is loaded.
func (tab *Tab) Open(url string) {
	tab.t.Helper()
	tab.AwaitLoad(func() {
		var result struct {
			ErrorText string `json:"errorText"`
		}
		tab.must(&result, "Page.navigate", map[string]any{"url": url})
		if result.ErrorText != "" {
			tab.t.Fatalf("%s: %s", url, result.ErrorText)
		}
	})
}

// AwaitLoad calls do, which must lead to another page, and waits until that page
// is loaded.
func (tab *Tab) AwaitLoad(do func()) {
	tab.t.Helper()
	select {
	case <-tab.loaded:
	default:
	}
	do()
	select {
	case <-tab.loaded:
	case <-time.After(timeout):
		tab.t.Fatal("the page was not loaded in time")
	}
}

// Eval returns the value of a JavaScript expression. If that is a promise, Eval
// waits for its value.
func Eval[T any](tab *Tab, expression string) (value T) {
	tab.t.Helper()
	var answer struct {
		Result struct {
			Value T `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	tab.must(&answer, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if answer.ExceptionDetails != nil {
		tab.t.Fatalf("%s\n%s", expression, answer.ExceptionDetails)
	}
	return answer.Result.Value
}

// Press presses a key: Tab, Enter or Space.
func (tab *Tab) Press(key string) {
	tab.t.Helper()
	keys := map[string]struct {
		code int
		text string
	}{"Tab": {9, ""}, "Enter": {13, "\r"}, "Space": {32, " "}}
	k, ok := keys[key]
	if !ok {
		tab.t.Fatalf("no key %s", key)
	}
	name := strings.Replace(key, "Space", " ", 1)
	down := map[string]any{"type": "rawKeyDown", "key": name, "code": key, "windowsVirtualKeyCode": k.code}
	if k.text != "" {
		down["type"], down["text"] = "keyDown", k.text
	}
	tab.must(nil, "Input.dispatchKeyEvent", down)
	tab.must(nil, "Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": name, "code": key, "windowsVirtualKeyCode": k.code})
}

// Type types a text where the focus is.
func (tab *Tab) Type(text string) {
	tab.t.Helper()
	tab.must(nil, "Input.insertText", map[string]any{"text": text})
}

// Size sets the size of the window.
func (tab *Tab) Size(width, height int) {
	tab.t.Helper()
	tab.must(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
}

// Scheme sets the color scheme that the user prefers: light or dark.
func (tab *Tab) Scheme(scheme string) {
	tab.t.Helper()
	tab.must(nil, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// Scripts sets whether pages may run scripts.
func (tab *Tab) Scripts(run bool) {
	tab.t.Helper()
	tab.must(nil, "Emulation.setScriptExecutionDisabled", map[string]any{"value": !run})
}

// Screenshot returns the window as a PNG.
func (tab *Tab) Screenshot() []byte {
	tab.t.Helper()
	var answer struct {
		Data string `json:"data"`
	}
	tab.must(&answer, "Page.captureScreenshot", map[string]any{"format": "png"})
	image, err := base64.StdEncoding.DecodeString(answer.Data)
	if err == nil && len(image) == 0 {
		err = errors.New("the screenshot is empty")
	}
	if err != nil {
		tab.t.Fatal(err)
	}
	return image
}
