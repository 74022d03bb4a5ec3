// Reads documents as container runtimes do: with encoding/json, into the structs of the OCI image specification.
//
// Each line of standard input is a document in base64. Each line of standard output says what was read: "error", or the
// list of what the document names, as JSON.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type Index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line == "" && err != nil {
			return
		}
		document, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			panic(err)
		}
		var index Index
		var manifest Manifest
		if json.Unmarshal(document, &index) != nil || json.Unmarshal(document, &manifest) != nil {
			fmt.Fprintln(out, "error")
			continue
		}
		entries := []string{}
		for _, entry := range index.Manifests {
			platform := "none"
			if entry.Platform != nil {
				platform = strings.Join([]string{entry.Platform.OS, entry.Platform.Architecture, entry.Platform.Variant}, "/")
			}
			kind := entry.Annotations["vnd.docker.reference.type"]
			entries = append(entries, strings.Join([]string{entry.Digest, entry.MediaType, platform, kind}, " "))
		}
		written, err := json.Marshal(map[string]any{"manifests": entries, "config": manifest.Config.Digest})
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, string(written))
	}
}
