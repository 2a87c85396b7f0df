package hubapi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hubpg/hubapi"
)

func TestErrorParserReadsEveryShape(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		check  func(e *hubapi.APIError, err error) error
	}{
		"scopes in errors":  {403, `{"status":"error","message":"This app hasn't been granted all required scopes","correlationId":"c1","errors":[{"message":"One or more","context":{"requiredGranularScopes":["crm.objects.deals.read"]}}],"links":{"scopes":"x"},"category":"MISSING_SCOPES"}`, wantScope("crm.objects.deals.read")},
		"scopes in context": {403, `{"status":"error","message":"One or more","correlationId":"c1","context":{"requiredGranularScopes":["custom-object-read"],"links":["x"]},"category":"MISSING_SCOPES"}`, wantScope("custom-object-read")},
		"legacy permission": {403, `{"status":"error","message":"This oauth-token does not have proper permissions!"}`, wantScope("")},
		"conflict text":     {409, `{"status":"error","message":"Contact already exists. Existing ID: 171591000198","category":"CONFLICT"}`, wantConflict(171591000198)},
		"conflict context":  {409, `{"message":"Contact already exists","context":{"existingId":["12"]},"category":"CONFLICT"}`, wantConflict(12)},
		"conflict no id":    {409, `{"message":"Contact already exists"}`, wantConflict(0)},
		"expired":           {401, `{"message":"expired","category":"EXPIRED_AUTHENTICATION","context":{"expire time":["2026"]}}`, wantType[*hubapi.AuthError]},
		"url too long":      {414, `<html><h1>414 Request-URI Too Large</h1></html>`, wantType[*hubapi.TooLargeError]},
		"not found":         {404, `{"message":"resource not found"}`, wantType[*hubapi.NotFoundError]},
		"bad type":          {400, `{"message":"Unable to infer object type from: x"}`, wantType[*hubapi.ValidationError]},
		"rolling": {
			429, `{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}`,
			wantPolicy(hubapi.PolicyTenSecondly),
		},
		"daily":    {429, `{"message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}`, wantPolicy(hubapi.PolicyDaily)},
		"secondly": {429, `{"message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`, wantPolicy(hubapi.PolicySecondly)},
		"moving":   {477, ``, wantPolicy(hubapi.PolicyMigration)},
		"invalid values": {
			400, `{"status":"error","message":"Property values were not valid","errors":[{"message":"Property \"color\" does not exist","code":"PROPERTY_DOESNT_EXIST","context":{"propertyName":["color"]}}],"category":"VALIDATION_ERROR"}`,
			wantDetail("color", "PROPERTY_DOESNT_EXIST"),
		},
		"invalid values in text": {
			400, `{"message":"Property values were not valid: [{\"isValid\":false,\"message\":\"m\",\"error\":\"INVALID_OPTION\",\"name\":\"stage\"}]","category":"VALIDATION_ERROR"}`,
			wantDetail("stage", "INVALID_OPTION"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := hubapi.ParseError(c.status, nil, []byte(c.body))
			if err := c.check(e, hubapi.Refusal(e)); err != nil {
				t.Error(err)
			}
		})
	}
}

func wantType[T error](_ *hubapi.APIError, err error) error {
	if _, ok := errors.AsType[T](err); !ok {
		return fmt.Errorf("got %T", err)
	}
	return nil
}

func wantScope(scope string) func(*hubapi.APIError, error) error {
	return func(_ *hubapi.APIError, err error) error {
		e, ok := errors.AsType[*hubapi.ScopeError](err)
		if !ok {
			return fmt.Errorf("got %T, want a *ScopeError", err)
		}
		if got := strings.Join(e.Scopes, " "); got != scope || !strings.Contains(e.Hint, scope) || e.Hint == "" {
			return fmt.Errorf("scopes %q, hint %q", got, e.Hint)
		}
		return nil
	}
}

func wantConflict(id int64) func(*hubapi.APIError, error) error {
	return func(_ *hubapi.APIError, err error) error {
		e, ok := errors.AsType[*hubapi.ConflictError](err)
		if !ok || e.ExistingID != id {
			return fmt.Errorf("got %T, want a *ConflictError with id %d: %w", err, id, err)
		}
		return nil
	}
}

func wantPolicy(policy string) func(*hubapi.APIError, error) error {
	return func(_ *hubapi.APIError, err error) error {
		e, ok := errors.AsType[*hubapi.RateError](err)
		if !ok || e.Policy != policy {
			return fmt.Errorf("got %T, want a *RateError of %s: %w", err, policy, err)
		}
		return nil
	}
}

func wantDetail(property, code string) func(*hubapi.APIError, error) error {
	return func(e *hubapi.APIError, err error) error {
		if _, ok := errors.AsType[*hubapi.ValidationError](err); !ok {
			return fmt.Errorf("got %T", err)
		}
		if len(e.Details) != 1 || e.Details[0].Property != property || e.Details[0].Code != code {
			return fmt.Errorf("details %+v", e.Details)
		}
		return nil
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(403, []byte(`{"message":"m","errors":[{"context":{"requiredGranularScopes":["a"]}}],"category":"MISSING_SCOPES"}`))
	f.Add(409, []byte(`{"message":"Contact already exists. Existing ID: 99999999999999999999"}`))
	f.Add(400, []byte(`{"message":"Property values were not valid: [{\"name\":1}]","errors":{"a":1},"context":[]}`))
	f.Add(502, []byte("<html><title>502 Bad Gateway</title>\xff<"))
	f.Add(429, []byte(`{"policyName":"daily"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := hubapi.ParseError(status, nil, body)
		text := hubapi.Refusal(e).Error()
		if len(text) > 1<<14 {
			t.Fatalf("error text of %d bytes", len(text))
		}
	})
}
