// Saves features of image files: go run . HOST:PORT SOURCE/NAME@WEIGHTS MODULE OUT.arrows FILE...
package main

import (
	"context"
	"hash/crc32"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	v1 "thingsvision/v1"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	address, id, module, out, files := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	names, weights, _ := strings.Cut(id, "@")
	source, name, _ := strings.Cut(names, "/")
	model := &v1.ModelSpec{Source: source, Name: name}
	if weights != "default" {
		model.Weights = &v1.ModelSpec_PretrainedTag{PretrainedTag: weights}
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	check(err)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-model", id)
	call, err := v1.NewFeatureServiceClient(connection).Extract(ctx)
	check(err)

	go func() { // replies come while images are being sent
		header := &v1.ExtractHeader{Model: model, Modules: []string{module}}
		check(call.Send(&v1.ExtractRequest{Part: &v1.ExtractRequest_Header{Header: header}}))
		for index, file := range files {
			encoded, err := os.ReadFile(file)
			check(err)
			image := &v1.Image{Index: uint64(index), Name: filepath.Base(file),
				Content: &v1.Image_Encoded{Encoded: encoded}}
			check(call.Send(&v1.ExtractRequest{Part: &v1.ExtractRequest_Image{Image: image}}))
		}
		check(call.CloseSend())
	}()

	stream, err := os.Create(out)
	check(err)
	sum, complete := crc32.NewIEEE(), false
	for {
		reply, err := call.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		if header := reply.GetHeader(); header != nil {
			log.Print(header.Columns) // shape, element type and axes of each module's features
		} else if frame := reply.GetFrame(); frame != nil {
			_, err = io.MultiWriter(stream, sum).Write(frame.ArrowIpc)
			check(err)
		} else if trailer := reply.GetTrailer(); trailer != nil {
			complete = trailer.ArrowCrc32 == sum.Sum32()
		}
	}
	check(stream.Close())
	if !complete {
		log.Fatalf("the reply is incomplete: don't use %s", out)
	}
}
