package existence

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
)

// holding is something in or on an IAM entity that has to go before it.
type holding struct {
	list   string // action that lists it
	remove string // action that removes one
	// element names one in the list, and parameter in the request to remove it.
	element, parameter string
}

func (c Checker) deleteRole(ctx context.Context, r Resource) error {
	return c.deleteEntity(ctx, "RoleName", r.text("id"), "DeleteRole",
		holding{"ListAttachedRolePolicies", "DetachRolePolicy", "PolicyArn", "PolicyArn"},
		holding{"ListRolePolicies", "DeleteRolePolicy", "member", "PolicyName"},
		holding{"ListInstanceProfilesForRole", "RemoveRoleFromInstanceProfile", "InstanceProfileName", "InstanceProfileName"})
}

func (c Checker) deleteUser(ctx context.Context, r Resource) error {
	name := r.text("id")
	if err := c.remove(ctx, form("iam", iamVersion, "DeleteLoginProfile", "UserName", name)); err != nil {
		return fmt.Errorf("its login: %w", err)
	}
	return c.deleteEntity(ctx, "UserName", name, "DeleteUser",
		holding{"ListAttachedUserPolicies", "DetachUserPolicy", "PolicyArn", "PolicyArn"},
		holding{"ListUserPolicies", "DeleteUserPolicy", "member", "PolicyName"},
		holding{"ListAccessKeys", "DeleteAccessKey", "AccessKeyId", "AccessKeyId"},
		holding{"ListMFADevices", "DeactivateMFADevice", "SerialNumber", "SerialNumber"},
		holding{"ListGroupsForUser", "RemoveUserFromGroup", "GroupName", "GroupName"})
}

func (c Checker) deletePolicy(ctx context.Context, r Resource) error {
	arn := r.text("id")
	for range rounds {
		body, err := c.do(ctx, form("iam", iamVersion, "ListPolicyVersions", "PolicyArn", arn))
		if err != nil {
			return err
		}
		var old []string
		ids, err := texts(body, "VersionId")
		if err != nil {
			return err
		}
		defaults, err := texts(body, "IsDefaultVersion")
		if err != nil {
			return err
		}
		if len(ids) != len(defaults) {
			return errors.New("the emulator's list of its versions can't be read")
		}
		for i, id := range ids {
			if defaults[i] != "true" {
				old = append(old, id)
			}
		}
		if len(old) == 0 {
			break
		}
		for _, id := range old {
			if err := c.remove(ctx, form("iam", iamVersion, "DeletePolicyVersion", "PolicyArn", arn, "VersionId", id)); err != nil {
				return fmt.Errorf("its version %s: %w", id, err)
			}
		}
	}
	return c.deleteEntity(ctx, "PolicyArn", arn, "DeletePolicy",
		holding{"ListEntitiesForPolicy", "DetachRolePolicy", "RoleName", "RoleName"},
		holding{"ListEntitiesForPolicy", "DetachUserPolicy", "UserName", "UserName"},
		holding{"ListEntitiesForPolicy", "DetachGroupPolicy", "GroupName", "GroupName"})
}

// deleteEntity deletes an IAM entity after all that it holds.
func (c Checker) deleteEntity(ctx context.Context, parameter, name, action string, holdings ...holding) error {
	for _, h := range holdings {
		if err := c.release(ctx, parameter, name, h); err != nil {
			return fmt.Errorf("%s: %w", h.remove, err)
		}
	}
	return c.remove(ctx, form("iam", iamVersion, action, parameter, name))
}

// release removes what an entity holds of one sort. Lists come in pages, so it
// asks until there is none.
func (c Checker) release(ctx context.Context, parameter, name string, h holding) error {
	for range rounds {
		body, err := c.do(ctx, form("iam", iamVersion, h.list, parameter, name))
		if err != nil {
			return err
		}
		held, err := texts(body, h.element)
		if err != nil || len(held) == 0 {
			return err
		}
		for _, one := range held {
			if err := c.remove(ctx, form("iam", iamVersion, h.remove, parameter, name, h.parameter, one)); err != nil {
				return fmt.Errorf("%s: %w", one, err)
			}
		}
	}
	return errors.New("there is no end to it")
}

// texts returns the texts of an answer's elements of a name.
func texts(body []byte, element string) ([]string, error) {
	var found []string
	for d := xml.NewDecoder(bytes.NewReader(body)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the emulator's answer: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != element {
			continue
		}
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			return nil, fmt.Errorf("read the emulator's answer: %w", err)
		}
		found = append(found, text)
	}
}
