//go:build integration

package aws_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/localstack"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// TestImageServesOtherTools runs the platform's LocalStack image by an
// independent client, testcontainers' LocalStack module, through the engine's
// Docker-compatible API: the image has to behave as the published one does.
func TestImageServesOtherTools(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	rt := open(t)
	name := "sandbox-" + testName
	labels := map[string]string{runtime.LabelName: testName}
	clean(t, rt, name)
	t.Cleanup(func() { clean(t, rt, name) })
	if _, err := rt.CreateNetwork(ctx, name, labels); err != nil {
		t.Fatal(err)
	}
	info, err := rt.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+info.Socket)
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true") // its image is in a registry; our label cleans up

	c, err := localstack.Run(
		ctx, localStackImage(t, rt),
		testcontainers.WithLabels(labels),
		network.WithNetworkName([]string{"localstack"}, name),
		// The module hands LocalStack the engine's socket, which it has no use for here.
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.Binds = nil }),
		// The module's own wait asks "localhost", which some hosts resolve to
		// more than the address that is published.
		testcontainers.WithWaitStrategy(wait.ForLog("Ready.").WithStartupTimeout(4*time.Minute)),
	)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := rt.Containers(ctx, labels)
	if err != nil || len(seen) != 1 || !seen[0].Running() {
		t.Fatalf("containers with our label: %+v, %v", seen, err)
	}

	port, err := c.MappedPort(ctx, "4566/tcp")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", port.Num())
	objects := s3.New(s3.Options{
		Region: aws.DefaultRegion, BaseEndpoint: sdk.String(endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(aws.AccessKey, aws.SecretKey, ""),
	})
	if _, err := objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: sdk.String("other-tools")}); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.PutObject(ctx, &s3.PutObjectInput{
		Bucket: sdk.String("other-tools"), Key: sdk.String("a/b"), Body: strings.NewReader("hello"),
	}); err != nil {
		t.Fatal(err)
	}
	list, err := objects.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: sdk.String("other-tools")})
	if err != nil || len(list.Contents) != 1 || *list.Contents[0].Key != "a/b" {
		t.Errorf("objects: %+v, %v", list, err)
	}
}
