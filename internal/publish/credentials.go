package publish

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	tokenVariable       = "REKISTERI_TOKEN"
	tokenVariablePrefix = "TF_TOKEN_"
)

// findToken returns the token for a host, such as registry.example:8443, from the
// places where Terraform and OpenTofu look for it. REKISTERI_TOKEN wins. An
// error does not hold a token.
func findToken(host string) (string, error) {
	if value, ok := os.LookupEnv(tokenVariable); ok {
		return checkToken(value, "the variable "+tokenVariable)
	}
	host = normalHost(host)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if encoded, ok := strings.CutPrefix(name, tokenVariablePrefix); ok && hostOfVariable(encoded) == host {
			return checkToken(value, "the variable "+name)
		}
	}
	token, source, err := tokenFromFiles(host)
	if err != nil {
		return "", err
	}
	if source == "" {
		return "", fmt.Errorf("there is no token for %s: set %s, or use Terraform's settings: %s, or a credentials block of its configuration (credentials helpers are not used)",
			host, tokenVariable, variableOfHost(host))
	}
	return checkToken(token, source)
}

// checkToken returns a token that a header can hold.
func checkToken(token, source string) (string, error) {
	token = strings.TrimSpace(token)
	switch {
	case token == "":
		return "", fmt.Errorf("%s is empty: set it to the token", source)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s does not hold a token: it has spaces, line breaks or other characters that a header cannot hold", source)
	}
	return token, nil
}

// normalHost returns a host as Terraform compares it.
func normalHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ":443") }

// hostOfVariable returns the host that the rest of the name of a TF_TOKEN_
// variable stands for.
func hostOfVariable(encoded string) string {
	return normalHost(strings.ReplaceAll(strings.ReplaceAll(encoded, "__", "-"), "_", "."))
}

// variableOfHost returns the name of the TF_TOKEN_ variable of a host.
func variableOfHost(host string) string {
	return tokenVariablePrefix + strings.ReplaceAll(strings.ReplaceAll(host, "-", "__"), ".", "_")
}

// tokenFromFiles returns the token for a host in the CLI configuration, and the
// file that it comes from, or an empty source. As in Terraform, the last file
// wins.
func tokenFromFiles(host string) (token, source string, err error) {
	files, err := configFiles()
	if err != nil {
		return "", "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		tokens, err := readCredentials(string(text))
		if err != nil {
			return "", "", fmt.Errorf("%s cannot be read: %w", file, err)
		}
		for name, value := range tokens {
			if normalHost(name) == host {
				token, source = value, file
			}
		}
	}
	return token, source, nil
}

// configFiles returns the files of the CLI configuration, the first being the
// least important. They need not exist.
func configFiles() ([]string, error) {
	if file := cmp.Or(os.Getenv("TF_CLI_CONFIG_FILE"), os.Getenv("TERRAFORM_CONFIG")); file != "" {
		return []string{file}, nil // which replaces all others
	}
	home, err := os.UserHomeDir()
	main, dir := []string{".terraformrc", ".tofurc"}, ".terraform.d"
	if runtime.GOOS == "windows" {
		home, err = os.UserConfigDir()
		main, dir = []string{"terraform.rc", "tofu.rc"}, "terraform.d"
	}
	if err != nil {
		return nil, nil // a user without a home has no configuration
	}
	var files []string
	for _, name := range main {
		files = append(files, filepath.Join(home, name))
	}
	dir = filepath.Join(home, dir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".tfrc") || strings.HasSuffix(name, ".tfrc.json") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}
