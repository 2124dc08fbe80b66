# All images under the names that pipeline/vertex/images.py gives them:
#
#   docker buildx create --use    # once: Docker's own builder cannot rewrite timestamps
#   bash deploy/images/bases.sh && \
#     REPOSITORY=us-central1-docker.pkg.dev/my-project/cifar-resnet TAG=0.1.0 PUSH=true \
#     docker buildx bake --file deploy/images/docker-bake.hcl
#
# With the bases given by digest and SOURCE_DATE_EPOCH=$(git log -1 --format=%ct), two
# builds of a commit differ in what Debian's archive has changed in between, if anything.

variable "REPOSITORY" {
  default = "cifar-resnet"
}

variable "TAG" {
  default = "0.1.0"
}

variable "REVISION" {
  default = "unknown"
}

# null: what the Dockerfile names; else for example a mirror's.
variable "PYTHON_IMAGE" {
  default = null
}

variable "BEAM_IMAGE" {
  default = null
}

variable "SOURCE_DATE_EPOCH" {
  default = "315532800" # 1980, the oldest time that a ZIP file can hold
}

variable "PUSH" {
  default = "false"
}

group "default" {
  targets = ["pipeline", "trainer-gpu", "trainer-tpu", "beam-worker"]
}

target "common" {
  context    = "."
  dockerfile = "deploy/images/Dockerfile"
  platforms  = ["linux/amd64"]
  args = {
    PYTHON_IMAGE      = PYTHON_IMAGE
    REVISION          = REVISION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
    VERSION           = TAG
  }
  # Files get the time of SOURCE_DATE_EPOCH, not of the build.
  output = ["type=image,push=${PUSH},rewrite-timestamp=true"]
}

target "pipeline" {
  inherits = ["common"]
  target   = "pipeline"
  tags     = ["${REPOSITORY}/pipeline:${TAG}"]
}

target "trainer-gpu" {
  inherits = ["common"]
  target   = "trainer-gpu"
  tags     = ["${REPOSITORY}/trainer-gpu:${TAG}"]
}

target "trainer-tpu" {
  inherits = ["common"]
  target   = "trainer-tpu"
  tags     = ["${REPOSITORY}/trainer-tpu:${TAG}"]
}

target "beam-worker" {
  inherits = ["common"]
  target   = "beam-worker"
  args = {
    BEAM_IMAGE = BEAM_IMAGE
  }
  tags = ["${REPOSITORY}/beam-worker:${TAG}"]
}
