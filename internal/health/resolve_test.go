package health

import (
	"slices"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestResolve(t *testing.T) {
	const (
		ok, degraded, failed = event.StateOK, event.StateDegraded, event.StateFailed
		stale, off, working  = event.StateStale, event.StateOff, event.StateWorking
	)
	for name, tc := range map[string]struct {
		others []event.Health
		needs  Needs
		in     event.Health
		want   event.Health
	}{
		"a failed cluster hides its releases": {
			others: []event.Health{{Component: "cluster", State: failed}},
			in:     event.Health{Component: "release/web-app", State: ok, Reason: "3 of 3 ready"},
			want: event.Health{
				Component: "release/web-app", State: stale, Blames: "cluster",
				Reason: "cluster is failed; was ok (3 of 3 ready)",
			},
		},
		"a stale cluster does not hide a release that was seen": {
			others: []event.Health{{Component: "cluster", State: stale}},
			in:     event.Health{Component: "release/web-app", State: ok},
			want:   event.Health{Component: "release/web-app", State: ok},
		},
		"a node keeps its own reason": {
			others: []event.Health{{Component: "cluster", State: failed}},
			in:     event.Health{Component: "cluster/node/a", State: failed, Reason: "container exited"},
			want:   event.Health{Component: "cluster/node/a", State: failed, Reason: "container exited"},
		},
		"a release that does not reach a failed emulator": {
			others: []event.Health{{Component: "aws", State: failed}},
			in:     event.Health{Component: "release/web-app/Deployment/web-app", State: failed, Reason: "connect ECONNREFUSED 10.96.0.9:4566"},
			want: event.Health{
				Component: "release/web-app/Deployment/web-app", State: failed,
				Reason: "connect ECONNREFUSED 10.96.0.9:4566", Blames: "aws",
			},
		},
		"the emulator is not blamed without evidence": {
			others: []event.Health{{Component: "aws", State: failed}},
			in:     event.Health{Component: "release/web-app", State: failed, Reason: "OOMKilled"},
			want:   event.Health{Component: "release/web-app", State: failed, Reason: "OOMKilled"},
		},
		"a declared need is evidence enough": {
			others: []event.Health{{Component: "aws", State: failed}},
			needs:  Needs{"release/web-app": {"aws"}},
			in:     event.Health{Component: "release/web-app/Deployment/x", State: degraded, Reason: "probe failed: 503"},
			want:   event.Health{Component: "release/web-app/Deployment/x", State: degraded, Reason: "probe failed: 503", Blames: "aws"},
		},
		"a declared need holds for its own component only": {
			others: []event.Health{{Component: "aws", State: failed}},
			needs:  Needs{"release/web": {"aws"}},
			in:     event.Health{Component: "release/web-app", State: degraded, Reason: "probe failed: 503"},
			want:   event.Health{Component: "release/web-app", State: degraded, Reason: "probe failed: 503"},
		},
		"an emulator that is fine is not blamed": {
			others: []event.Health{{Component: "aws", State: working}},
			in:     event.Health{Component: "release/web-app", State: failed, Reason: "connection refused"},
			want:   event.Health{Component: "release/web-app", State: failed, Reason: "connection refused"},
		},
		"a release whose image failed": {
			others: []event.Health{{Component: "image/other", State: failed}, {Component: "image/web-app", State: failed}},
			in:     event.Health{Component: "release/r", State: failed, Reason: "ImagePullBackOff: localhost/sandbox/s/web-app:1"},
			want: event.Health{
				Component: "release/r", State: failed,
				Reason: "ImagePullBackOff: localhost/sandbox/s/web-app:1", Blames: "image/web-app",
			},
		},
		"a blame that the probe gave stays": {
			others: []event.Health{{Component: "aws", State: failed}},
			in:     event.Health{Component: "terraform/infra", State: failed, Blames: "terraform/base"},
			want:   event.Health{Component: "terraform/infra", State: failed, Blames: "terraform/base"},
		},
		"off stays off": {
			others: []event.Health{{Component: "cluster", State: failed}},
			in:     event.Health{Component: "release/x", State: off, Reason: "not wanted"},
			want:   event.Health{Component: "release/x", State: off, Reason: "not wanted"},
		},
		"prometheus without targets": {
			others: []event.Health{{Component: "cluster", State: stale}},
			in:     event.Health{Component: "observe/prometheus", State: degraded, Reason: "kubernetes-kubelet 0 of 1 up"},
			want:   event.Health{Component: "observe/prometheus", State: degraded, Reason: "kubernetes-kubelet 0 of 1 up", Blames: "cluster"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(slices.Clone(tc.others), tc.in)
			before := slices.Clone(all)
			got := Resolve(all, tc.needs)
			if !slices.Equal(all, before) {
				t.Error("the input was changed")
			}
			if got[len(got)-1] != tc.want {
				t.Errorf("got  %+v\nwant %+v", got[len(got)-1], tc.want)
			}
			if !slices.Equal(got[:len(got)-1], tc.others) {
				t.Errorf("the others were changed: %+v", got)
			}
		})
	}
}

func TestOverallIsTheWorst(t *testing.T) {
	states := func(s ...event.State) []event.Health {
		var all []event.Health
		for _, state := range s {
			all = append(all, event.Health{State: state})
		}
		return all
	}
	for _, tc := range []struct {
		in   []event.Health
		want event.State
	}{
		{nil, event.StateStale},
		{states(event.StateOff, event.StateOff), event.StateOff},
		{states(event.StateOK, event.StateOff), event.StateOK},
		{states(event.StateOK, event.StateWaiting, event.StateWorking), event.StateWorking},
		{states(event.StateOK, event.StateStale, event.StateWorking), event.StateStale},
		{states(event.StateStale, event.StateDegraded), event.StateDegraded},
		{states(event.StateDegraded, event.StateFailed, event.StateOK), event.StateFailed},
	} {
		if got := Overall(tc.in); got != tc.want {
			t.Errorf("Overall(%v) = %s, want %s", tc.in, got, tc.want)
		}
	}
}
