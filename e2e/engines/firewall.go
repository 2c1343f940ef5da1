package engines

import (
	"fmt"
	"os/exec"
	"strings"
)

// dockerRule tells a rule or a chain of Docker's by what it mentions.
func dockerRule(rule string) bool {
	for _, mark := range []string{"DOCKER", "docker0", " br-", bridgeSubnet, " 10.201."} {
		if strings.Contains(rule, mark) {
			return true
		}
	}
	return false
}

// removeRules takes out of the firewall what Docker leaves in it.
func removeRules() error {
	for _, table := range []string{"filter", "nat"} {
		out, err := exec.Command("iptables", "-t", table, "-S").Output()
		if err != nil {
			return fmt.Errorf("list the firewall's rules: %w", err)
		}
		var chains []string
		for line := range strings.Lines(string(out)) {
			words := strings.Fields(line)
			if len(words) < 2 || !dockerRule(line) {
				continue
			}
			switch words[0] {
			case "-N":
				chains = append(chains, words[1])
			case "-A":
				words[0] = "-D"
				if err := output(exec.Command("iptables", append([]string{"-t", table}, words...)...)); err != nil {
					return err
				}
			}
		}
		for _, chain := range chains {
			if err := output(exec.Command("iptables", "-t", table, "-X", chain)); err != nil {
				return err
			}
		}
	}
	return nil
}
