package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

var networkChecks = []Check{
	{ID: "network/ports", Title: "the ports of the stack", limit: engineLimit + checkLimit, run: checkPorts},
	{ID: "network/proxy", Title: "the proxy of the environment", run: checkProxy},
	{ID: "network/ca", Title: "certificate authorities", run: checkCA},
	{ID: "network/dns", Title: "names are resolved", run: checkDNS},
	{ID: "network/registry", Title: "image registries answer", limit: engineLimit + checkLimit, run: checkRegistry},
	{ID: "network/packages", Title: "package sources answer", limit: engineLimit + 2*checkLimit, run: checkPackages},
	{ID: "network/clock", Title: "the clock is right", run: checkClock},
}

// proxyVariables name the proxy for what programs ask for by https and http.
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"}

// proxy returns the variable that names a proxy, and its value.
func (h *Host) proxy() (variable, value string) {
	for _, v := range proxyVariables {
		if value := h.Env(v); value != "" {
			return v, value
		}
	}
	return "", ""
}

func checkProxy(ctx context.Context, e *exam) Finding {
	variable, value := e.proxy()
	if variable == "" {
		return ok("none is set")
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return fail(variable+" is not the address of a proxy", "its value can't be read as a URL", "export "+variable+"=http://HOST:PORT")
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), map[string]string{"https": "443", "socks5": "1080"}[u.Scheme])
		if u.Scheme == "http" {
			address = net.JoinHostPort(u.Hostname(), "80")
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fail("the proxy "+u.Redacted()+" does not answer", err.Error(), "unset "+variable+", or name a proxy that runs")
	}
	if err := conn.Close(); err != nil {
		return unknown("whether the proxy answers", err)
	}
	direct := strings.Split(e.Env("NO_PROXY")+","+e.Env("no_proxy"), ",")
	if !slices.Contains(direct, "127.0.0.1") || !slices.Contains(direct, "localhost") {
		return warn("the proxy "+u.Redacted()+" is also asked for this machine's own addresses",
			"tools that honour the proxy look for the sandbox's ports at the proxy", "export NO_PROXY=127.0.0.1,localhost")
	}
	return ok("%s answers", u.Redacted())
}

func checkCA(_ context.Context, e *exam) Finding {
	variable := "SSL_CERT_FILE"
	file := e.Env(variable)
	if file == "" {
		variable, file = "", e.CAFile
	}
	if file == "" {
		return fail("this machine has no file of certificate authorities", "nothing can be fetched by https, and built images have nobody to trust", "").
			repaired(e.Host, Repair{Packages: []string{"ca-certificates"}})
	}
	fix := "unset SSL_CERT_FILE"
	if variable == "" {
		fix = "sudo update-ca-certificates"
	}
	text, err := e.read(file)
	if err != nil {
		return fail("the certificate authorities in "+file+" can't be read", err.Error(), fix)
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return fail(file+" holds no certificate", "nothing that is fetched by https can be trusted", fix)
	}
	return ok("%d in %s", strings.Count(text, "BEGIN CERTIFICATE"), file)
}

func checkDNS(ctx context.Context, e *exam) Finding {
	registries, sources, err := e.hosts(ctx)
	if err != nil {
		return unknown("which names are needed", err)
	}
	hosts := slices.Concat(registries, sources)
	if len(hosts) == 0 {
		return skip("no name has to be resolved", "nothing is fetched")
	}
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() { _, errs[i] = e.Net.Lookup(ctx, host) })
	}
	all.Wait()
	var good, bad []string
	var last error
	for i, host := range hosts {
		if errs[i] == nil {
			good = append(good, host)
		} else {
			bad, last = append(bad, host), errs[i]
		}
	}
	const fix = "check the nameserver lines of /etc/resolv.conf"
	switch {
	case len(bad) == 0:
		return ok("%s", strings.Join(good, ", "))
	case e.usesProxy():
		return skip("names are left to the proxy", "not resolved here: "+strings.Join(bad, ", "))
	case len(good) == 0:
		found := fail("no name can be resolved", last.Error(), fix)
		if unbuilt, err := e.unbuilt(ctx); err == nil && len(unbuilt) == 0 {
			found.State = Warn // nothing has to be fetched
		}
		return found
	case len(lacking(bad, registries)) == 0 && len(bad) == len(registries):
		return ok("%s, though no image registry", strings.Join(good, ", ")) // network/registry says what that means
	}
	return warn("not resolved: "+strings.Join(bad, ", "), last.Error(), fix)
}

func (h *Host) usesProxy() bool { variable, _ := h.proxy(); return variable != "" }

// hosts are the names of registries and of package sources.
func (e *exam) hosts(ctx context.Context) (registries, sources []string, err error) {
	for _, r := range e.need.Registries {
		registries = append(registries, hostname("https://"+registryHost(r)))
	}
	list, err := e.sourcesOf(ctx, nil)
	for _, s := range list {
		sources = append(sources, hostname(s.URL))
	}
	slices.Sort(sources)
	return registries, slices.Compact(sources), err
}

func hostname(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Hostname()
}

// registryHost is where a registry's images are asked for.
func registryHost(name string) string {
	if name == "docker.io" {
		return "registry-1.docker.io"
	}
	return name
}

// registries asks every registry, once for all checks that want to know.
func (e *exam) registries(ctx context.Context) (map[string]error, error) {
	e.registryOnce.Do(func() {
		go func() {
			defer close(e.registryDone)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit-200*time.Millisecond)
			defer cancel()
			var mu sync.Mutex
			var all sync.WaitGroup
			e.registryErrs = map[string]error{}
			for _, host := range e.need.Registries {
				all.Go(func() {
					err := e.Net.Registry(ctx, host)
					mu.Lock()
					defer mu.Unlock()
					e.registryErrs[host] = err
				})
			}
			all.Wait()
		}()
	})
	select {
	case <-e.registryDone:
		return e.registryErrs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func checkRegistry(ctx context.Context, e *exam) Finding {
	if e.need.Images == "packages" {
		return skip("none is asked", "images are built from packages (--images packages)")
	}
	if len(e.need.Registries) == 0 {
		return skip("none is asked", "the stack needs no image of a registry's")
	}
	errs, err := e.registries(ctx)
	if err != nil {
		return unknown("whether the registries answer", err)
	}
	var failed []string
	for _, host := range e.need.Registries {
		if errs[host] != nil {
			failed = append(failed, host)
		}
	}
	if len(failed) == 0 {
		return ok("%s", strings.Join(e.need.Registries, ", "))
	}
	what := strings.Join(failed, ", ") + " can't be reached"
	why, fix := e.reachProblem(errs[failed[0]])
	unbuilt, err := e.unbuilt(ctx)
	switch {
	case err != nil:
		return unknown("whether the platform's images are here already", err)
	case len(unbuilt) == 0:
		return Finding{State: OK, What: what + ", and need not be", Why: "the platform's images are here already"}
	case e.need.Images == "registry":
		return fail(what, why+"; nothing else has "+strings.Join(unbuilt, ", ")+" (--images registry)", fix)
	}
	return warn(what, why+"; the platform's images are built from packages instead, which takes half an hour once", fix)
}

// reachProblem says why a host can't be reached, and what helps.
func (e *exam) reachProblem(err error) (why, fix string) {
	var unknownCA x509.UnknownAuthorityError
	var badCert *tls.CertificateVerificationError
	var expired x509.CertificateInvalidError
	var noName *net.DNSError
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // which page was asked for explains nothing
	}
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return "its certificate is not valid at this machine's time: " + err.Error(), "set the clock"
	case errors.As(err, &unknownCA), errors.As(err, &badCert):
		return "its certificate is signed by an authority that is not trusted here, as where a proxy inspects TLS: " + err.Error(),
			"put your network's CA into /usr/local/share/ca-certificates/NAME.crt and run sudo update-ca-certificates"
	case errors.As(err, &noName):
		return err.Error(), "check the nameserver lines of /etc/resolv.conf, or set HTTPS_PROXY where your network has a proxy"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time", "set HTTPS_PROXY where your network has a proxy"
	case e.usesProxy():
		_, proxy := e.proxy()
		return "through the proxy " + redacted(proxy) + ": " + err.Error(), "ask who runs the proxy to let it through"
	}
	return err.Error(), "set HTTPS_PROXY where your network has a proxy"
}

func redacted(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil {
		return "of the environment"
	}
	return u.Redacted()
}

// checkPackages asks the sources that images are built from. They matter where
// no registry answers and an image is still to be built.
func checkPackages(ctx context.Context, e *exam) Finding {
	sources, unbuilt, why, err := e.toBuild(ctx)
	if err != nil {
		return unknown("which sources are needed", err)
	}
	if len(sources) == 0 {
		return skip("none is needed", why)
	}
	answers := make([]error, len(sources))
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() { answers[i] = e.answers(ctx, s.URL) })
	}
	all.Wait()
	var good, bad []string
	var first error
	for i, s := range sources {
		if answers[i] == nil {
			good = append(good, s.Name)
			continue
		}
		bad = append(bad, s.Name+" ("+s.URL+")")
		if first == nil {
			first = answers[i]
		}
	}
	if len(bad) > 0 {
		why, fix := e.reachProblem(first)
		return fail("neither a registry nor "+strings.Join(bad, ", ")+" can be reached",
			strings.Join(unbuilt, ", ")+" can come from nowhere: "+why, fix)
	}
	return ok("%s", strings.Join(good, ", "))
}

// toBuild returns what the images would be built from that are neither here nor
// in a registry that answers, and their names; or why there is nothing to build.
func (e *exam) toBuild(ctx context.Context) (sources []Source, unbuilt []string, why string, err error) {
	if e.Sources == nil {
		return nil, nil, "no source is known", nil
	}
	if e.need.Images == "registry" {
		return nil, nil, "packages are not used (--images registry)", nil
	}
	if unbuilt, err = e.unbuilt(ctx); err != nil {
		return nil, nil, "", err
	}
	if len(unbuilt) == 0 {
		return nil, nil, "the platform's images are here already", nil
	}
	errs, err := e.registries(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	reached := len(errs) > 0
	for _, err := range errs {
		reached = reached && err == nil
	}
	if reached && e.need.Images != "packages" {
		return nil, nil, "images come from their registry", nil
	}
	sources, err = e.sourcesOf(ctx, unbuilt)
	return sources, unbuilt, "", err
}

// answers returns nil where the URL can be had.
func (e *exam) answers(ctx context.Context, address string) error {
	_, err := e.get(ctx, address)
	return err
}

// get asks for a page and returns when its server says that it is; the page
// itself is not read.
func (e *exam) get(ctx context.Context, address string) (date string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := e.Net.Client.Do(req)
	if err != nil {
		return "", err
	}
	if err := res.Body.Close(); err != nil {
		return "", err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return "", fmt.Errorf("%s answers %s", address, res.Status)
	}
	return res.Header.Get("Date"), nil
}

// A certificate is valid from its making on, and AWS clients sign the time.
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

func checkClock(ctx context.Context, e *exam) Finding {
	if e.Sources == nil {
		return skip("nobody was asked", "no source of the time is known")
	}
	sources, err := e.sourcesOf(ctx, nil)
	if err != nil {
		return unknown("whom to ask for the time", err)
	}
	var last error
	for _, s := range sources {
		before := e.Now()
		date, err := e.get(ctx, s.URL)
		if err != nil {
			last = err
			continue
		}
		said, err := http.ParseTime(date)
		if err != nil {
			last = err
			continue
		}
		took := e.Now().Sub(before)
		return clock(before.Add(took/2).Sub(said), hostname(s.URL))
	}
	if last == nil {
		return skip("nobody was asked", "there is no package source to ask")
	}
	return unknown("nobody tells the time", last)
}

func clock(off time.Duration, whose string) Finding {
	direction := "ahead of"
	if off < 0 {
		off, direction = -off, "behind"
	}
	what := fmt.Sprintf("this clock is %s %s that of %s", off.Round(time.Second), direction, whose)
	why := "certificates seem expired or not yet valid, and signed requests are refused"
	const fix = "sudo timedatectl set-ntp true"
	switch {
	case off > clockFail:
		return fail(what, why, fix)
	case off > clockWarn:
		return warn(what, why, fix)
	}
	return ok("within %s of %s's", clockWarn, whose)
}
