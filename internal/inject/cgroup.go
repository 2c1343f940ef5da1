package inject

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What uses up a container's memory or CPU are processes of the node in the
// container's own cgroup: nothing is needed of its image, and the kernel
// charges them to the container. They are marked by a variable in their
// environment that holds the ID of the record, so that any process can end
// them; they end with the container, and after deadMan at the latest.

// deadMan is how long such processes run where nobody ends them, in seconds.
const deadMan = 30 * 60

// load is one kind of such processes.
type load struct {
	// controller is the cgroup controller that has to charge for them.
	controller string
	// body is the shell script that they run: $1 is the amount, $2 the
	// container's process, $3 deadMan. It prints a line when it uses the amount.
	body string
}

// findTask sets pid to the process of the container with the ID $cid.
const findTask = `
pid=$(ctr -n k8s.io tasks ls | sed -n "s/^$cid *\([0-9][0-9]*\) .*/\1/p")
[ -n "$pid" ] || { echo "container $cid does not run" >&2; exit 1; }
`

// findCgroup defines cgroup, which calls a function with a controller and its
// folder for each cgroup of the process $pid that is that container's. Its
// path holds the container's ID, so that a number used again does no harm.
const findCgroup = `
cgroup() {
	while IFS=: read -r _ names path; do
		case $path in *"$cid"*) ;; *) continue ;; esac
		case $names in
		'') dir=/sys/fs/cgroup; [ ! -d /sys/fs/cgroup/unified ] || { dir=/sys/fs/cgroup/unified; names=unified; } ;;
		*) dir=/sys/fs/cgroup/${names#name=} ;;
		esac
		[ ! -f "$dir$path/cgroup.procs" ] || "$1" "$names" "$dir$path"
	done </proc/$pid/cgroup
}
`

// startLoad starts a load: ID of the record, ID of the container, controller,
// amount, deadMan, body. It has the record's mark itself, which the load
// inherits. Besides the controller's cgroup it joins those by which systemd ends
// what is left of a container that has ended. The kernel's OOM killer is to
// choose the load, not what runs in the container.
const startLoad = `set -eu
id=$1 cid=$2 controller=$3 amount=$4 dead=$5 body=$6
` + findTask + findCgroup + `
joined=
join() {
	case ,$1, in
	,,) joined=yes ;;
	*,"$controller",*) joined=yes ;;
	,cpuacct,) [ "$controller" = cpu ] || return 0 ;;
	,unified,|,name=systemd,) ;;
	*) return 0 ;;
	esac
	echo $$ >"$2/cgroup.procs"
}
cgroup join
[ -n "$joined" ] || { echo "found no $controller cgroup of container $cid" >&2; exit 1; }
echo 1000 >/proc/self/oom_score_adj
export ` + containerVariable + `="$cid"
(setsid timeout -s KILL "$dead" sh -c "$body" "sandbox-drill-$id" "$amount" "$pid" "$dead" </dev/null 2>/dev/null &) | head -n 1
`

// endMarked defines end, which kills the processes whose environment holds $1,
// until there is none.
const endMarked = `
end() {
	tries=0
	while :; do
		pids=$(grep -lzxF -- "$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n')
		[ -n "$pids" ] || return 0
		[ $tries -lt 100 ] || { echo "processes do not end: $pids" >&2; exit 1; }
		kill -9 $pids 2>/dev/null
		tries=$((tries+1))
		sleep 0.1
	done
}
`

// endLoads ends the processes with the mark $1.
const endLoads = endMarked + `end "$1"`

// countLoads prints how many processes have the mark $1.
const countLoads = `grep -lzxF -- "$1" /proc/[0-9]*/environ 2>/dev/null | wc -l`

// The variables that mark processes: all of a record, and those of a load in one
// container.
const (
	drillVariable     = "SANDBOX_DRILL"
	containerVariable = "SANDBOX_DRILL_CONTAINER"
)

func recordMark(id string) string           { return drillVariable + "=" + id }
func containerMark(container string) string { return containerVariable + "=" + container }

// start runs a load in a container and waits until it uses the amount.
func (l load) start(ctx context.Context, w World, node, id, container string, amount int64) error {
	out, err := w.breakOnNode(ctx, node, id, startLoad, id, container, l.controller,
		strconv.FormatInt(amount, 10), strconv.Itoa(deadMan), l.body)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out) == "" {
		return fmt.Errorf("on node %s: what was to use the %s of container %s ended at once", node, l.controller, container)
	}
	return nil
}

// countLoads returns how many processes of a load run for the mark.
func (w World) countLoads(ctx context.Context, node, mark string) (int, error) {
	out, err := w.scriptOnNode(ctx, node, countLoads, mark)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// loadData is what the record of a load keeps.
type loadData struct {
	podSet
	// Amount is the percentage of the memory, or the number of busy loops.
	Amount int `json:"amount"`
}

// prepareLoad finds the pods of a load; check decides on each.
func (w World) prepareLoad(ctx context.Context, spec podSpec, amount int, check func(p *corev1.Pod, container string) error) (loadData, []string, error) {
	set, pods, err := findPods(ctx, w, spec)
	if err != nil {
		return loadData{}, nil, err
	}
	if err := set.chooseContainer(pods); err != nil {
		return loadData{}, nil, err
	}
	for _, p := range pods {
		if err := check(&p, set.Container); err != nil {
			return loadData{}, nil, err
		}
	}
	if err := w.reachNodes(ctx, pods); err != nil {
		return loadData{}, nil, err
	}
	kube, err := w.Kube()
	if err != nil {
		return loadData{}, nil, err
	}
	if set.Nodes, err = nodeNames(ctx, kube); err != nil {
		return loadData{}, nil, err
	}
	targets, err := set.targets(ctx, kube, pods)
	return loadData{podSet: set, Amount: amount}, targets, err
}

// place is a container of a pod on a node.
type place struct{ pod, node, container string }

// eachLoad does something for each of the containers that a load is to be in
// and that run, and reports how many these are.
func (w World) eachLoad(ctx context.Context, data loadData, chosen map[types.UID]bool, do func(at place) error) (int, error) {
	kube, err := w.Kube()
	if err != nil {
		return 0, err
	}
	pods, err := data.running(ctx, kube)
	if err != nil {
		return 0, err
	}
	n := 0
	err = forEachPod(data.hit(pods, chosen), func(p *corev1.Pod) error {
		id, ok := runningID(p, data.Container)
		if !ok {
			return nil
		}
		n++
		return do(place{p.Namespace + "/" + p.Name, p.Spec.NodeName, id})
	})
	return n, err
}

// errNoContainer says that a load has nowhere to be.
var errNoContainer = errors.New("none of the pods' containers runs")

// undoLoad ends the processes of a record on all nodes.
func (w World) undoLoad(ctx context.Context, rec Record) error {
	var data loadData
	if err := rec.read(&data); err != nil {
		return err
	}
	return w.mendNodes(ctx, data.Nodes, endLoads, recordMark(rec.ID))
}
