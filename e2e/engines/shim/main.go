// The command shim stands in for runc where this machine grants too little: it
// takes out of a container what may not be granted, and then becomes runc,
// which lies beside it as runc-real.
//
// Docker asks for every capability for --privileged, and for limits above this
// process's own; without CAP_SYS_RESOURCE runc can give neither. Podman is told
// by configuration, which Docker 20.10 has none of. This is set-up for tests on
// such machines and no part of the product.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const lacking = "CAP_SYS_RESOURCE"

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "runc shim:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if bundle := option(args, "bundle", "b"); bundle != "" {
		err = edit(filepath.Join(bundle, "config.json"), func(doc map[string]any) {
			if process, ok := doc["process"].(map[string]any); ok {
				reduce(process)
			}
		})
	} else if process := option(args, "process", "p"); process != "" {
		err = edit(process, reduce)
	}
	if err != nil {
		return err
	}
	runc := filepath.Join(filepath.Dir(self), "runc-real")
	return syscall.Exec(runc, append([]string{runc}, args[1:]...), os.Environ())
}

// option returns the value of the first such option, "" where there is none.
func option(args []string, long, short string) string {
	for i, a := range args {
		if value, ok := strings.CutPrefix(a, "--"+long+"="); ok {
			return value
		}
		if (a == "--"+long || a == "-"+short) && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// edit changes the JSON file, keeping its numbers as they are.
func edit(path string, change func(map[string]any)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	change(doc)
	if text, err = json.Marshal(doc); err != nil {
		return fmt.Errorf("render %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o600)
}

// reduce takes the capability and all limits from a process.
func reduce(process map[string]any) {
	delete(process, "rlimits")
	delete(process, "oomScoreAdj")
	sets, ok := process["capabilities"].(map[string]any)
	if !ok {
		return
	}
	for name, set := range sets {
		list, ok := set.([]any)
		if !ok {
			continue
		}
		kept := make([]any, 0, len(list))
		for _, capability := range list {
			if capability != lacking {
				kept = append(kept, capability)
			}
		}
		sets[name] = kept
	}
}
