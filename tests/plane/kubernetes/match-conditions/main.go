// match-conditions evaluates matchConditions of webhooks as the API server does, with its limits, for the tests that
// would need thousands of requests otherwise. It reads one question a line and writes one answer a line (JSON).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
)

type question struct {
	Expressions []string        `json:"expressions"`
	Operation   string          `json:"operation"`
	Object      json.RawMessage `json:"object"`
	OldObject   json.RawMessage `json:"oldObject"`
	// As the object stands, also where no client could send it so.
	Raw bool `json:"raw"`
}

type answer struct {
	Matches bool     `json:"matches"`
	Errors  []string `json:"errors"`
	// What each expression cost.
	Costs []int64 `json:"costs"`
}

type conditions map[string]cel.ConditionEvaluator

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	compiled := conditions{}
	lines := json.NewDecoder(in)
	for lines.More() {
		var asked question
		if err := lines.Decode(&asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		told, err := compiled.answer(asked)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(told); err != nil {
			os.Exit(1)
		}
	}
}

func (c conditions) answer(asked question) (answer, error) {
	told := answer{Matches: true, Errors: []string{}, Costs: []int64{}}
	for _, expression := range asked.Expressions {
		one, cost, err := c.evaluate(expression, asked)
		if err != nil {
			return told, err
		}
		told.Costs = append(told.Costs, cost)
		for _, result := range one {
			if result.Error != nil {
				told.Errors = append(told.Errors, result.Error.Error())
			} else if result.EvalResult.Value() != true {
				told.Matches = false
			}
		}
	}
	return told, nil
}

func (c conditions) evaluate(expression string, asked question) ([]cel.EvaluationResult, int64, error) {
	evaluator, known := c[expression]
	if !known {
		compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
		accessor := matchconditions.MatchCondition(v1.MatchCondition{Name: "asked", Expression: expression})
		options := cel.OptionalVariableDeclarations{HasParams: false, HasAuthorizer: true}
		evaluator = compiler.CompileCondition([]cel.ExpressionAccessor{&accessor}, options, environment.StoredExpressions)
		c[expression] = evaluator
	}
	object, kind, err := decode(asked.Object, asked.Raw)
	if err != nil {
		return nil, 0, err
	}
	old, _, err := decode(asked.OldObject, asked.Raw)
	if err != nil {
		return nil, 0, err
	}
	operation := admission.Operation(asked.Operation)
	resource := schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: "asked"}
	attributes := admission.NewAttributesRecord(object, old, kind, "", "", resource, "", operation, nil, false, nil)
	versioned := &admission.VersionedAttributes{
		Attributes:         attributes,
		VersionedObject:    admission.NewLazyObject(object),
		VersionedOldObject: admission.NewLazyObject(old),
		VersionedKind:      kind,
	}
	request := cel.CreateAdmissionRequest(attributes, metav1.GroupVersionResource(resource), metav1.GroupVersionKind(kind))
	budget := int64(celconfig.RuntimeCELCostBudgetMatchConditions)
	results, left, err := evaluator.ForInput(context.Background(), versioned, request, cel.OptionalVariableBindings{}, nil, budget)
	return results, budget - left, err
}

func decode(text json.RawMessage, raw bool) (runtime.Object, schema.GroupVersionKind, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, schema.GroupVersionKind{}, nil
	}
	if raw {
		object := &unstructured.Unstructured{}
		err := json.Unmarshal(text, &object.Object)
		return object, object.GroupVersionKind(), err
	}
	object, kind, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return nil, schema.GroupVersionKind{}, err
	}
	return object, *kind, nil
}
