package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

func ExampleClient_Objects() {
	account := sandbox.New(sandbox.Config{Empty: true, Quiet: true})
	for _, name := range []string{"Ada", "Grace"} {
		if _, err := account.Create("contacts", map[string]string{"firstname": name}); err != nil {
			fmt.Println(err)
		}
	}
	server := httptest.NewServer(account)
	defer server.Close()

	client, err := hubapi.New(server.URL, hubapi.StaticToken(sandbox.DefaultToken))
	if err != nil {
		fmt.Println(err)
		return
	}
	names := hubapi.NewProjection([]string{"firstname"})
	for page, err := range client.Objects(context.Background(), "contacts", hubapi.ListOptions{Projection: names}) {
		if err != nil {
			fmt.Println(err, hubapi.Hint(err))
			return
		}
		for _, contact := range page.Records {
			fmt.Printf("%s\n", contact.Values[0])
		}
	}
	// Output:
	// Ada
	// Grace
}

func ExampleScopeError() {
	account := sandbox.New(sandbox.Config{Empty: true, Quiet: true, WithheldScopes: []string{"crm.objects.deals.read"}})
	server := httptest.NewServer(account)
	defer server.Close()
	client, err := hubapi.New(server.URL, hubapi.StaticToken(sandbox.DefaultToken))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.ListObjects(context.Background(), "deals", hubapi.ListOptions{})
	if refused, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		fmt.Println(refused.Scopes)
	}
	// Output: [crm.objects.deals.read]
}
