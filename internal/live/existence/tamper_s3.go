package existence

import (
	"context"
	"crypto/md5" //nolint:gosec // what S3 checks a body by
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// page is how many objects are listed, and deleted, at a time.
const page = "500"

// object is one version of an object.
type object struct {
	Key       string `xml:"Key"`
	VersionID string `xml:"VersionId,omitempty"`
}

// deleteBucket empties a bucket and deletes it. What is put into it meanwhile
// makes it start again.
func (c Checker) deleteBucket(ctx context.Context, r Resource) error {
	bucket := "/" + url.PathEscape(r.text("id"))
	for range rounds {
		if err := c.empty(ctx, bucket); err != nil {
			return fmt.Errorf("empty it: %w", err)
		}
		a, err := c.send(ctx, query{service: "s3", method: http.MethodDelete, path: bucket})
		if err != nil || a.ok() || a.absent() {
			return err
		}
		if a.code() != "BucketNotEmpty" {
			return a.refusal()
		}
	}
	return errors.New("it is filled faster than it can be emptied")
}

// empty deletes all versions of all objects.
func (c Checker) empty(ctx context.Context, bucket string) error {
	for {
		body, err := c.do(ctx, query{service: "s3", method: http.MethodGet, path: bucket + "?max-keys=" + page + "&versions="})
		if err != nil {
			return err
		}
		var list struct {
			Versions []object `xml:"Version"`
			Markers  []object `xml:"DeleteMarker"`
		}
		if err := xml.Unmarshal(body, &list); err != nil {
			return fmt.Errorf("read the list of objects: %w", err)
		}
		objects := slices.Concat(list.Versions, list.Markers)
		if len(objects) == 0 {
			return nil
		}
		order := struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Delete"`
			Objects []object `xml:"Object"`
			Quiet   bool     `xml:"Quiet"`
		}{Objects: objects, Quiet: true}
		q, err := document(http.MethodPost, bucket+"?delete=", order)
		if err != nil {
			return err
		}
		if body, err = c.do(ctx, q); err != nil {
			return err
		}
		var result struct {
			Errors []struct{ Key, Code string } `xml:"Error"`
		}
		if err := xml.Unmarshal(body, &result); err != nil {
			return fmt.Errorf("read what was deleted: %w", err)
		}
		if len(result.Errors) > 0 {
			return fmt.Errorf("delete %s: %s", result.Errors[0].Key, result.Errors[0].Code)
		}
	}
}

// tagBucket adds the tag to those that the bucket has: they can only be set
// all at once.
func (c Checker) tagBucket(ctx context.Context, r Resource) error {
	type tag struct{ Key, Value string }
	var set struct {
		XMLName xml.Name `xml:"Tagging"`
		Tags    []tag    `xml:"TagSet>Tag"`
	}
	path := "/" + url.PathEscape(r.text("id")) + "?tagging="
	a, err := c.send(ctx, query{service: "s3", method: http.MethodGet, path: path})
	switch {
	case err != nil:
		return err
	case a.ok():
		if err := xml.Unmarshal(a.body, &set); err != nil {
			return fmt.Errorf("read its tags: %w", err)
		}
	case a.code() != "NoSuchTagSet":
		return a.refusal()
	}
	if slices.ContainsFunc(set.Tags, func(t tag) bool { return t.Key == TagKey }) {
		return nil // it has been changed before
	}
	set.XMLName = xml.Name{Space: "http://s3.amazonaws.com/doc/2006-03-01/", Local: "Tagging"}
	set.Tags = append(set.Tags, tag{TagKey, TagValue})
	q, err := document(http.MethodPut, path, set)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, q)
	return err
}

// document is a request to S3 with a body in XML.
func document(method, path string, body any) (query, error) {
	data, err := xml.Marshal(body)
	if err != nil {
		return query{}, err
	}
	sum := md5.Sum(data) //nolint:gosec // what S3 checks a body by
	return query{
		service: "s3", method: method, path: path, body: data,
		header: map[string]string{"Content-Type": "application/xml", "Content-Md5": base64.StdEncoding.EncodeToString(sum[:])},
	}, nil
}
