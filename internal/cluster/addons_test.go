package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func addonObjects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, name := range addons {
		data, err := manifests.ReadFile("manifests/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		objects, err := parseManifests(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(objects) == 0 {
			t.Errorf("%s holds no object", name)
		}
		all = append(all, objects...)
	}
	return all
}

// What runs for observation must be able to change nothing and read no secret.
func TestAddonsOnlyRead(t *testing.T) {
	var roles int
	for _, o := range addonObjects(t) {
		if o.GetKind() != "ClusterRole" {
			continue
		}
		roles++
		var role rbacv1.ClusterRole
		if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				if !slices.Contains([]string{"get", "list", "watch"}, verb) {
					t.Errorf("%s may %s %v", role.Name, verb, rule.Resources)
				}
			}
			for _, resource := range rule.Resources {
				if resource == "*" || strings.HasPrefix(resource, "secrets") {
					t.Errorf("%s may read %s", role.Name, resource)
				}
				if strings.HasSuffix(resource, "/proxy") && !slices.Equal(rule.Verbs, []string{"get"}) {
					t.Errorf("%s may %v through the proxy", role.Name, rule.Verbs)
				}
			}
		}
	}
	if roles != 2 {
		t.Errorf("%d roles", roles)
	}
}

func TestAddonsLiveInTheirNamespace(t *testing.T) {
	for _, o := range addonObjects(t) {
		clusterWide := slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding"}, o.GetKind())
		if !clusterWide && o.GetNamespace() != SystemNamespace {
			t.Errorf("%s/%s is in namespace %q", o.GetKind(), o.GetName(), o.GetNamespace())
		}
	}
}

func TestParseManifestsNamesTheBrokenOne(t *testing.T) {
	_, err := parseManifests([]byte("kind: A\n---\nkind: [\n"))
	if err == nil || !strings.Contains(err.Error(), "manifest 2") {
		t.Errorf("error %v", err)
	}
}

// applierFor returns an applier whose server answers an apply with the given
// resource version.
func applierFor(version string, err error, objects ...kruntime.Object) (*applier, *dynamicfake.FakeDynamicClient) {
	client := dynamicfake.NewSimpleDynamicClient(kruntime.NewScheme(), objects...)
	client.PrependReactor("patch", "*", func(clienttesting.Action) (bool, kruntime.Object, error) {
		o := &unstructured.Unstructured{}
		o.SetResourceVersion(version)
		return true, o, err
	})
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}, meta.RESTScopeNamespace)
	return &applier{client: client, mapper: mapper, labels: map[string]string{"sandbox.name": "web"}}, client
}

func account(version string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("v1")
	o.SetKind("ServiceAccount")
	o.SetName("a")
	o.SetNamespace("n")
	o.SetResourceVersion(version)
	return o
}

func TestApplyTellsWhetherAnythingChanged(t *testing.T) {
	for _, tc := range []struct {
		name    string
		there   []kruntime.Object
		after   string
		changed bool
	}{
		{"created", nil, "1", true},
		{"changed", []kruntime.Object{account("1")}, "2", true},
		{"unchanged", []kruntime.Object{account("2")}, "2", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, client := applierFor(tc.after, nil, tc.there...)
			changed, err := a.apply(t.Context(), []*unstructured.Unstructured{account("")})
			if err != nil {
				t.Fatal(err)
			}
			if changed != tc.changed {
				t.Errorf("changed %v", changed)
			}
			actions := client.Actions()
			patch, ok := actions[len(actions)-1].(clienttesting.PatchAction)
			if !ok || !strings.Contains(string(patch.GetPatch()), `"sandbox.name":"web"`) || patch.GetNamespace() != "n" {
				t.Errorf("last action %+v", actions[len(actions)-1])
			}
		})
	}
}

func TestApplyNamesTheObjectThatFails(t *testing.T) {
	a, _ := applierFor("", errors.New("denied"))
	if _, err := a.apply(t.Context(), []*unstructured.Unstructured{account("")}); err == nil || !strings.Contains(err.Error(), "ServiceAccount/a: denied") {
		t.Errorf("error %v", err)
	}
}

// The controller manager fills in the token some time after the secret exists.
func TestWaitTokenWaitsForTheToken(t *testing.T) {
	var asked int
	client := fake.NewClientset()
	client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, kruntime.Object, error) {
		asked++
		s := &corev1.Secret{}
		if asked > 1 {
			s.Data = map[string][]byte{"token": []byte("t"), "ca.crt": []byte("c")}
		}
		return true, s, nil
	})
	s, err := waitToken(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Data["token"]) != "t" || asked != 2 {
		t.Errorf("token %q after %d questions", s.Data["token"], asked)
	}
}
