package publish

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

func TestReadCredentials(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       map[string]string
		err        string
	}{
		{name: "empty"},
		{name: "block", text: `credentials "a.example" { token = "x" }`, want: map[string]string{"a.example": "x"}},
		{name: "lines", text: "credentials \"a.example\" {\r\n  token = \"x\"\r\n}\r\n", want: map[string]string{"a.example": "x"}},
		{name: "several", text: "credentials \"a.example\" {\n token=\"x\"\n}\ncredentials \"b.example:8443\" {\n token = \"y\"\n}",
			want: map[string]string{"a.example": "x", "b.example:8443": "y"}},
		{name: "quoted names", text: `"credentials" "a.example" { "token" = "x" }`, want: map[string]string{"a.example": "x"}},
		{name: "escapes", text: `credentials "a.example" { token = "x\"y\\z\u0041" }`, want: map[string]string{"a.example": `x"y\zA`}},
		{name: "comments", text: "# credentials \"a.example\" { token = \"no\" }\n/* } */ credentials /* { */ \"a.example\" { // }\n token = # =\n \"x\" }",
			want: map[string]string{"a.example": "x"}},
		{name: "between other settings", text: `
			plugin_cache_dir = "$HOME/.terraform.d/plugin-cache"
			disable_checkpoint = true
			provider_installation {
				filesystem_mirror { path = "/usr/share" include = ["example.com/*/*"] }
				direct { exclude = ["example.com/*/*"] }
			}
			host "a.example" { services = { "providers.v1" = "https://b.example/" } }
			credentials "a.example" { token = "x" }
			credentials_helper "vault" { args = ["--token", "z"] }`, want: map[string]string{"a.example": "x"}},
		{name: "a block inside another", text: `host "h" { credentials "a.example" { token = "x" } }`},
		{name: "other attributes", text: `credentials "a.example" { user = "u" more { token = "no" } token = "x" last = [1, 2.5] }`, want: map[string]string{"a.example": "x"}},
		{name: "empty token", text: `credentials "a.example" { token = "" }`, want: map[string]string{"a.example": ""}},
		{name: "no token", text: `credentials "a.example" { }`},
		{name: "token that is no string", text: `credentials "a.example" { token = 5 }`},
		{name: "block that does not end", text: `credentials "a.example" { token = "x"`},
		{name: "string that does not end", text: `credentials "a.example" { token = "x` + "\n}"},
		{name: "one that does not end after a good one", text: `credentials "a.example" { token = "x" } credentials "b.example" { token = "y`, want: map[string]string{"a.example": "x"}},
		{name: "unknown escape", text: `credentials "a.example" { token = "\$x" }`},
		{name: "label that is missing", text: `credentials { token = "x" }`},

		{name: "JSON", text: ` {"credentials": {"a.example": {"token": "x"}, "b.example": {"token": "y"}}, "other": [1]}`,
			want: map[string]string{"a.example": "x", "b.example": "y"}},
		{name: "JSON without credentials", text: `{}`},
		{name: "JSON that does not end", text: `{"credentials": {"a.example": {"token": "x"`, err: "not valid JSON"},
		{name: "JSON token that is no string", text: `{"credentials": {"a.example": {"token": 5}}}`, err: "not objects with a token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readCredentials(test.text)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, test.want) {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// FuzzReadCredentials checks that what is read can be read from a configuration
// around it, too, and that nothing panics.
func FuzzReadCredentials(f *testing.F) {
	f.Add(`credentials "a.example" { token = "x" }`)
	f.Add("host \"h\" { a = [1] }\n# c\ncredentials \"b\" {\ntoken=\"\\\"\"}")
	f.Add(`{"credentials": {"a": {"token": "x"}}}`)
	f.Add(`credentials "a" { token = "`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readCredentials(text)
		if err != nil || strings.HasPrefix(strings.TrimSpace(text), "{") {
			return
		}
		after, err := readCredentials("provider_installation {\n}\n" + text)
		if err != nil || !maps.Equal(got, after) {
			t.Errorf("%q, and behind a block %q, %v", got, after, err)
		}
	})
}

func TestFindToken(t *testing.T) {
	const host = "tf-reg.acme.example"
	hcl := func(token string) string { return "credentials \"" + host + "\" {\n  token = \"" + token + "\"\n}\n" }
	json := func(token string) string { return `{"credentials": {"` + host + `": {"token": "` + token + `"}}}` }
	main, other, dir := ".terraformrc", ".tofurc", ".terraform.d"
	if runtime.GOOS == "windows" {
		main, other, dir = "terraform.rc", "tofu.rc", "terraform.d"
	}
	for _, test := range []struct {
		name  string
		host  string // default: host
		env   map[string]string
		files map[string]string // in the home directory
		want  string
		err   string
	}{
		{name: "nothing", err: "there is no token for tf-reg.acme.example: set REKISTERI_TOKEN, or use Terraform's settings: TF_TOKEN_tf__reg_acme_example, or"},
		{name: "own variable", env: map[string]string{"REKISTERI_TOKEN": "own", "TF_TOKEN_tf__reg_acme_example": "env"}, want: "own"},
		{name: "line break at the end", env: map[string]string{"REKISTERI_TOKEN": "own\n"}, want: "own"},
		{name: "empty", env: map[string]string{"REKISTERI_TOKEN": "", "TF_TOKEN_tf__reg_acme_example": "env"}, err: "the variable REKISTERI_TOKEN is empty"},
		{name: "blank", env: map[string]string{"REKISTERI_TOKEN": " \n"}, err: "the variable REKISTERI_TOKEN is empty"},
		{name: "line break inside", env: map[string]string{"REKISTERI_TOKEN": "a\nb"}, err: "the variable REKISTERI_TOKEN does not hold a token"},
		{name: "other letters", env: map[string]string{"REKISTERI_TOKEN": "tökén"}, err: "the variable REKISTERI_TOKEN does not hold a token"},

		{name: "variable of the host", env: map[string]string{"TF_TOKEN_tf__reg_acme_example": "env"}, files: map[string]string{main: hcl("main")}, want: "env"},
		{name: "variable in upper case", env: map[string]string{"TF_TOKEN_TF__REG_acme_example": "env"}, want: "env"},
		{name: "host in upper case", host: "TF-Reg.acme.example", env: map[string]string{"TF_TOKEN_tf__reg_acme_example": "env"}, want: "env"},
		{name: "variable with dashes", env: map[string]string{"TF_TOKEN_tf-reg.acme.example": "env"}, want: "env"},
		{name: "variable of another host", env: map[string]string{"TF_TOKEN_acme_example": "env"}, err: "there is no token"},
		{name: "empty variable of the host", env: map[string]string{"TF_TOKEN_tf__reg_acme_example": ""}, files: map[string]string{main: hcl("main")}, err: "the variable TF_TOKEN_tf__reg_acme_example is empty"},
		{name: "default port", host: host + ":443", env: map[string]string{"TF_TOKEN_tf__reg_acme_example": "env"}, want: "env"},
		{name: "another port", host: host + ":8443", env: map[string]string{"TF_TOKEN_tf__reg_acme_example": "env"}, err: "there is no token"},
		{name: "port in the variable", host: host + ":8443", env: map[string]string{"TF_TOKEN_tf__reg_acme_example:8443": "env"}, want: "env"},

		{name: "main file", files: map[string]string{main: hcl("main")}, want: "main"},
		{name: "file of OpenTofu", files: map[string]string{other: hcl("tofu")}, want: "tofu"},
		{name: "terraform login", files: map[string]string{main: hcl("main"), dir + "/credentials.tfrc.json": json("login")}, want: "login"},
		{name: "another file in the directory", files: map[string]string{dir + "/acme.tfrc": hcl("acme"), dir + "/notes.json": json("no")}, want: "acme"},
		{name: "file of another host", files: map[string]string{main: `credentials "acme.example" { token = "no" }`}, err: "there is no token"},
		{name: "file of its own", env: map[string]string{"TF_CLI_CONFIG_FILE": "ci.rc"}, files: map[string]string{"ci.rc": hcl("ci"), main: hcl("main"), dir + "/credentials.tfrc.json": json("login")}, want: "ci"},
		{name: "file of its own without the host", env: map[string]string{"TF_CLI_CONFIG_FILE": "ci.rc"}, files: map[string]string{"ci.rc": "", main: hcl("main")}, err: "there is no token"},
		{name: "malformed file", files: map[string]string{dir + "/credentials.tfrc.json": `{"credentials": "` + secret}, err: "credentials.tfrc.json cannot be read: it is not valid JSON"},
		{name: "empty token in a file", files: map[string]string{main: hcl("")}, err: main + " is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := t.TempDir()
			for _, variable := range os.Environ() {
				if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, tokenVariablePrefix) || name == tokenVariable {
					unsetenv(t, name)
				}
			}
			unsetenv(t, tokenVariable)
			t.Setenv("TF_CLI_CONFIG_FILE", "")
			t.Setenv("TERRAFORM_CONFIG", "")
			t.Setenv("HOME", home)
			t.Setenv("APPDATA", home)
			for name, value := range test.env {
				if name == "TF_CLI_CONFIG_FILE" {
					value = filepath.Join(home, value)
				}
				t.Setenv(name, value)
			}
			for name, text := range test.files {
				servertest.WriteFile(t, filepath.Join(home, name), text)
			}
			host := host
			if test.host != "" {
				host = test.host
			}
			got, err := findToken(host)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), secret) {
					t.Errorf("%q, %v, want %q", got, err, test.err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// unsetenv unsets a variable until the test ends.
func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "")
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
