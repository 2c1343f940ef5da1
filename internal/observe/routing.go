package observe

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// A configuration of Alertmanager is kept as the map that it is in the file: what
// it says beyond routes and receivers is Alertmanager's own business.
type routing = map[string]any

// noReceiver is the receiver of a sandbox without a configuration of the user's.
const noReceiver = "none"

// ownRouting is what holds without a configuration of the user's. Alerts go out at
// once and one by one: there is nobody to spare a flood, but somebody who waits
// to see the alert.
func ownRouting() routing {
	return routing{
		"route": map[string]any{
			"receiver": noReceiver, "group_by": []any{"..."},
			"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h",
		},
		"receivers": []any{map[string]any{"name": noReceiver}},
	}
}

// readRouting reads the user's configuration and puts the templates that it names
// into files, from where it then takes them.
func readRouting(path string, files fileSet) (routing, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "check observability.alertmanager of the stack file", "Alertmanager's configuration can't be read")
	}
	var cfg routing
	if err := yaml.Unmarshal(data, &cfg); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "correct "+path, "Alertmanager's configuration is not valid")
	}
	patterns, _ := cfg["templates"].([]any)
	var copied []any
	for _, p := range patterns {
		pattern := filepath.Clean(fmt.Sprint(p))
		if !filepath.IsLocal(pattern) {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("Alertmanager's templates %q are outside of the stack", p), "only files of the stack are copied", "name them relative to "+filepath.Base(path))
		}
		found, err := filepath.Glob(filepath.Join(filepath.Dir(path), pattern))
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "correct "+path, "Alertmanager's templates %q", p)
		}
		for _, file := range found {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "check the file", "a template of Alertmanager's can't be read")
			}
			// The number keeps two files of the same name apart.
			name := fmt.Sprintf("templates/%02d-%s", len(copied)+1, filepath.Base(file))
			files[name], copied = content, append(copied, name)
		}
	}
	if len(copied) > 0 {
		cfg["templates"] = copied
	}
	return cfg, nil
}

// DrillReceiver is the receiver of a drill, which stands beside those of the user.
type DrillReceiver struct {
	// URL is where it takes notifications, as seen from the sandbox's network. The
	// name of the receiver that it stands beside is put behind it.
	URL string
	// Compress is what the times of the routes are divided by; 1 leaves them.
	Compress int
}

// The times of a root route that sets none, and the shortest that they become.
const (
	defaultGroupWait      = 30 * time.Second
	defaultGroupInterval  = 5 * time.Minute
	defaultRepeatInterval = 4 * time.Hour
	leastRouteTime        = time.Second
)

// add puts the webhook beside every receiver that notifies somebody, so that it
// gets what they get and nothing else: what is routed to a receiver that notifies
// nobody does not arrive. Where there are none of the user's, own says that the
// one without anybody counts.
func (d *DrillReceiver) add(cfg routing, own bool) error {
	list, _ := cfg["receivers"].([]any)
	for _, item := range list {
		r, ok := item.(map[string]any)
		if !ok || (!own && !notifies(r)) {
			continue
		}
		hooks, _ := r["webhook_configs"].([]any)
		r["webhook_configs"] = append(slices.Clone(hooks), map[string]any{
			"url": d.URL + "/" + url.PathEscape(fmt.Sprint(r["name"])), "send_resolved": true,
		})
	}
	root, ok := cfg["route"].(map[string]any)
	if !ok {
		return fault.New(fault.Invalid, "Alertmanager's configuration has no route", "alerts would go nowhere", "add route: {receiver: …}")
	}
	if d.Compress <= 1 {
		return nil
	}
	setRouteDefaults(root)
	return compressRoute(root, time.Duration(d.Compress))
}

func setRouteDefaults(root map[string]any) {
	for key, value := range map[string]time.Duration{
		"group_wait": defaultGroupWait, "group_interval": defaultGroupInterval, "repeat_interval": defaultRepeatInterval,
	} {
		if root[key] == nil {
			root[key] = model.Duration(value).String()
		}
	}
}

// RouteTimes returns how long Alertmanager may wait, by its routes, before it tells
// of a new alert and before it tells that one is over.
func (a *Alertmanager) RouteTimes() (wait, interval time.Duration, err error) {
	cfg := ownRouting()
	if a.cfg.Config != "" {
		if cfg, err = readRouting(a.cfg.Config, fileSet{}); err != nil {
			return 0, 0, err
		}
	}
	root, ok := cfg["route"].(map[string]any)
	if !ok {
		return 0, 0, nil
	}
	setRouteDefaults(root)
	err = eachRoute(root, func(route map[string]any) error {
		for key, longest := range map[string]*time.Duration{"group_wait": &wait, "group_interval": &interval} {
			if route[key] == nil {
				continue
			}
			d, err := routeTime(route, key)
			if err != nil {
				return err
			}
			*longest = max(*longest, d)
		}
		return nil
	})
	return wait, interval, err
}

// eachRoute calls f with a route and those below it.
func eachRoute(route map[string]any, f func(map[string]any) error) error {
	if err := f(route); err != nil {
		return err
	}
	children, _ := route["routes"].([]any)
	for _, c := range children {
		child, ok := c.(map[string]any)
		if !ok {
			continue
		}
		if err := eachRoute(child, f); err != nil {
			return err
		}
	}
	return nil
}

func routeTime(route map[string]any, key string) (time.Duration, error) {
	d, err := model.ParseDuration(fmt.Sprint(route[key]))
	if err != nil {
		return 0, fault.Wrap(fault.Invalid, err, "write it as in 30s", "%s of a route of Alertmanager's", key)
	}
	return time.Duration(d), nil
}

// notifies says whether a receiver has an integration.
func notifies(receiver map[string]any) bool {
	for key, value := range receiver {
		if list, ok := value.([]any); ok && strings.HasSuffix(key, "_configs") && len(list) > 0 {
			return true
		}
	}
	return false
}

func compressRoute(root map[string]any, factor time.Duration) error {
	return eachRoute(root, func(route map[string]any) error {
		for _, key := range []string{"group_wait", "group_interval", "repeat_interval"} {
			if route[key] == nil {
				continue
			}
			d, err := routeTime(route, key)
			if err != nil {
				return err
			}
			route[key] = model.Duration(min(d, max(d/factor, leastRouteTime)).Round(time.Millisecond)).String()
		}
		return nil
	})
}
