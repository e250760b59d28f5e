package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/workloads/images"
)

// findImage resolves a reference and makes sure that its files are there.
// Pulling cannot add any.
func (s *Server) findImage(reference string) (images.Image, uint64, error) {
	image, err := s.config.Images(reference)
	if err != nil {
		return image, 0, status.Error(codes.NotFound, err.Error())
	}
	var size uint64
	for target, binary := range image.Files {
		info, err := os.Stat(filepath.Join(s.config.BinDir, binary))
		if err != nil {
			return image, 0, status.Errorf(codes.NotFound, "image %q: %s: %v; was everything built?", reference, target, err)
		}
		size += uint64(info.Size())
	}
	return image, size, nil
}

// standIn is the configuration of a container whose image another one stands for:
// the command is the stand-in's own, and whose user it was to run as nobody knows
// here by name.
func (s *Server) standIn(ctx context.Context, pod *sandbox, config *runtimeapi.ContainerConfig, image images.Image) (*runtimeapi.ContainerConfig, error) {
	if s.config.StandIn == nil {
		return nil, status.Errorf(codes.NotFound, "image %q: nothing stands in for it", image.StandsFor)
	}
	metadata := pod.config.GetMetadata()
	args, err := s.config.StandIn(ctx, metadata.GetNamespace(), metadata.GetName(), config.GetMetadata().GetName())
	if err != nil {
		return nil, fmt.Errorf("find out what stands in for image %q: %w", image.StandsFor, err)
	}
	changed := proto.CloneOf(config)
	changed.Command, changed.Args = nil, args
	if changed.GetLinux().GetSecurityContext().GetRunAsUsername() != "" {
		changed.Linux.SecurityContext.RunAsUsername = ""
	}
	s.log.Info("a stand-in runs in place of an image", "image", image.StandsFor, "namespace", metadata.GetNamespace(), "pod", metadata.GetName(),
		"container", config.GetMetadata().GetName(), "args", args)
	return changed, nil
}

func describeImage(image images.Image, size uint64, reference string) *runtimeapi.Image {
	described := &runtimeapi.Image{
		// References differ by tags and digests that nothing here depends on.
		Id: image.Repository, RepoTags: []string{reference}, Size: size, Pinned: true,
		Spec: &runtimeapi.ImageSpec{Image: image.Repository, UserSpecifiedImage: reference},
		Uid:  &runtimeapi.Int64Value{Value: image.User},
	}
	return described
}

// ImageStatus says that an image is present if the table has it.
func (s *Server) ImageStatus(_ context.Context, request *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	reference := request.GetImage().GetImage()
	image, size, err := s.findImage(reference)
	if err != nil {
		return &runtimeapi.ImageStatusResponse{}, nil // not present, by the interface's rules
	}
	return &runtimeapi.ImageStatusResponse{Image: describeImage(image, size, reference)}, nil
}

// PullImage cannot add images: it succeeds for those that are present.
func (s *Server) PullImage(_ context.Context, request *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	image, _, err := s.findImage(request.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: image.Repository}, nil
}

// ListImages lists the table, as far as its files are there.
func (s *Server) ListImages(_ context.Context, request *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	response := &runtimeapi.ListImagesResponse{}
	if reference := request.GetFilter().GetImage().GetImage(); reference != "" {
		if image, size, err := s.findImage(reference); err == nil {
			response.Images = append(response.Images, describeImage(image, size, reference))
		}
		return response, nil
	}
	for _, entry := range s.config.AllImages() {
		if image, size, err := s.findImage(entry.Repository); err == nil {
			response.Images = append(response.Images, describeImage(image, size, entry.Repository))
		}
	}
	return response, nil
}

// RemoveImage does nothing: images are a table.
func (s *Server) RemoveImage(context.Context, *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo says where the images' binaries are. Containers' roots are in
// memory and count as nothing.
func (s *Server) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	binaries := map[string]uint64{}
	for _, image := range s.config.AllImages() {
		for _, binary := range image.Files {
			if info, err := os.Stat(filepath.Join(s.config.BinDir, binary)); err == nil {
				binaries[binary] = uint64(info.Size())
			}
		}
	}
	var used uint64
	for _, size := range binaries {
		used += size
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems:     []*runtimeapi.FilesystemUsage{filesystem(s.config.BinDir, used, uint64(len(binaries)))},
		ContainerFilesystems: []*runtimeapi.FilesystemUsage{filesystem(s.config.BinDir, 0, 0)},
	}, nil
}

func filesystem(directory string, used, inodes uint64) *runtimeapi.FilesystemUsage {
	return &runtimeapi.FilesystemUsage{
		Timestamp: time.Now().UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: directory},
		UsedBytes: &runtimeapi.UInt64Value{Value: used}, InodesUsed: &runtimeapi.UInt64Value{Value: inodes},
	}
}
